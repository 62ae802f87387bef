// Responds with the forwarded fields that it received, one per line. Listens on a port, or on a Unix socket.
import { createServer } from "node:http";

const names = ["Host", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "X-Real-IP", "Forwarded"];

const where = process.argv[2];

createServer((request, response) => {
  const lines = names
    .filter((name) => request.headers[name.toLowerCase()] !== undefined)
    .map((name) => `${name}: ${request.headers[name.toLowerCase()]}\n`);
  response.setHeader("Content-Type", "text/plain");
  response.end(lines.join(""));
}).listen(where.startsWith("/") ? { path: where } : { port: Number(where), host: "127.0.0.1" });
