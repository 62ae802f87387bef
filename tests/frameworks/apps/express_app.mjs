// express
import express from "express";

const app = express();
app.use(express.json({ limit: "1mb" }));
app.post("/items", (request, response) => response.json(request.body));
app.get("/crash", () => {
  throw new Error("db-7.internal is down");
});
app.listen(Number(process.argv[2]), "127.0.0.1");
