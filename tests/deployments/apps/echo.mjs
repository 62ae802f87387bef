// Responds with the forwarded fields that it received, one per line.
import { createServer } from "node:http";

const names = ["Host", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "X-Real-IP", "Forwarded"];

createServer((request, response) => {
  const lines = names
    .filter((name) => request.headers[name.toLowerCase()] !== undefined)
    .map((name) => `${name}: ${request.headers[name.toLowerCase()]}\n`);
  response.setHeader("Content-Type", "text/plain");
  response.end(lines.join(""));
}).listen(Number(process.argv[2]), "127.0.0.1");
