// fastify
import Fastify from "fastify";

const app = Fastify();
const body = { type: "object", required: ["name", "price"], properties: { name: { type: "string" }, price: { type: "number" } } };
app.post("/items", { schema: { body } }, (request) => request.body);
app.get("/crash", () => {
  throw new Error("db-7.internal is down");
});
app.get("/private", () => {
  const error = new Error("Missing credentials");
  error.statusCode = 401;
  error.code = "NO_CREDENTIALS";
  throw error;
});
await app.listen({ port: Number(process.argv[2]), host: "127.0.0.1" });
