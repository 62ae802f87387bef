# sinatra, puma
require "sinatra"
require "json"

set :server, "puma"
set :bind, "127.0.0.1"
set :port, ARGV[0].to_i
set :logging, false

post("/items") { JSON.parse(request.body.read).to_json }
get("/crash") { raise "db-7.internal is down" }
get("/private") { halt 401 }
