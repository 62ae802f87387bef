// Echoes the body of a POST and counts it. The third argument is the idle limit of connections in seconds.
import { createServer } from "node:http";

let count = 0;
const server = createServer((request, response) => {
  if (request.method !== "POST") return response.end(String(count));
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    count += 1;
    response.end(Buffer.concat(chunks));
  });
});
server.keepAliveTimeout = Number(process.argv[3]) * 1000;
server.listen(Number(process.argv[2]), "127.0.0.1");
