//! axum with its extractors' own rejections. A panic closes the connection, so there is no 500.

use axum::extract::{Json, Path, Query};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};

#[derive(Deserialize, Serialize)]
struct Item {
    name: String,
    price: f64,
}

#[derive(Deserialize)]
struct Page {
    number: u32,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let app = axum::Router::new()
        .route("/items", post(|Json(item): Json<Item>| async { Json(item) }))
        .route("/items/{id}", get(|Path(id): Path<u32>| async move { id.to_string() }))
        .route("/pages", get(|Query(page): Query<Page>| async move { page.number.to_string() }));
    let address = format!("127.0.0.1:{}", std::env::args().nth(1).unwrap());
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    axum::serve(listener, app).await.unwrap();
}
