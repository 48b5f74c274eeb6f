export const greeting = (mode) => `built for ${mode}`;
