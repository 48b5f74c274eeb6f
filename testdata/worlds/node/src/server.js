const express = require('express');
const os = require('node:os');

const app = express();

app.get('/healthz', (req, res) => res.json({ ok: true }));
app.get('/items/:id', (req, res) => {
  res.json({ id: req.params.id, user: os.userInfo().username, env: process.env.NODE_ENV });
});

const server = app.listen(process.env.PORT || 3000);
process.on('SIGTERM', () => server.close());
