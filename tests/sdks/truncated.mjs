// Sends one request to each URL with fetch and prints what its user gets, one JSON value per line.
// node truncated.mjs URL...
for (const url of process.argv.slice(2)) {
  let found;
  try {
    const response = await fetch(url);
    found = { status: response.status, body: await response.text() };
  } catch (error) {
    found = { failed: error.name };
  }
  console.log(JSON.stringify(found));
}
