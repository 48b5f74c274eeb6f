import { greeting } from './greeting.js';

document.querySelector('#built').textContent = greeting(import.meta.env.MODE);
