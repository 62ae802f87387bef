//! OpenTelemetry behind the gateway: the SDK's default sampler records as many spans as without the gateway, with the
//! same trace IDs, because trace context is forwarded unchanged and never invented.

use std::net::SocketAddr;

use serde_json::Value;

use crate::curl::Curl;
use crate::gateway::RealGateway;
use crate::servers::gunicorn;

const SAMPLED: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const WITH_STATE: &str = "0af7651916cd43dd8448eb211c80319c";
const UNSAMPLED: &str = "5bd66ef5095369c7b0d1f8f4bd33716a";

/// The fields of each request.
fn requests() -> Vec<Vec<String>> {
    let parent = |trace: &str, flags: &str| format!("traceparent: 00-{trace}-00f067aa0ba902b7-{flags}");
    vec![
        vec![],
        vec![],
        vec![parent(SAMPLED, "01")],
        vec![parent(SAMPLED, "01")],
        vec![
            parent(WITH_STATE, "01"),
            "tracestate: vendor=a:b,other=1".to_owned(),
            "baggage: user=7".to_owned(),
        ],
        // The caller decided not to record.
        vec![parent(UNSAMPLED, "00")],
        vec!["traceparent: malformed".to_owned()],
        vec!["tracestate: vendor=alone".to_owned()],
    ]
}

/// Sends the requests. Returns the recorded spans: the trace ID where the client chose it, the parent and the state.
fn recorded_spans(client: &Curl, server: SocketAddr) -> Vec<(String, Value, Value)> {
    for fields in requests() {
        let options: Vec<&str> = fields.iter().flat_map(|field| ["--header", field.as_str()]).collect();
        let response = client.with_options(&options).get(server, "/work");
        assert_eq!((response.status, response.text()), (200, "done".to_owned()));
    }
    let spans: Vec<Value> = serde_json::from_str(&client.get(server, "/spans").text()).unwrap();
    let span = |span: &Value| {
        let id = span["trace_id"].as_str().unwrap();
        let chosen = [SAMPLED, WITH_STATE, UNSAMPLED].contains(&id);
        (if chosen { id } else { "new" }.to_owned(), span["parent"].clone(), span["state"].clone())
    };
    spans.iter().map(span).collect()
}

#[test]
#[ignore = "make proof: OpenTelemetry"]
fn opentelemetry_records_the_same_spans_with_and_without_the_gateway() {
    let application = gunicorn("traced_flask:app", 2);
    let gateway = RealGateway::with_upstream(application.address());
    let direct = recorded_spans(&Curl::http1(), application.address());
    let traces: Vec<&str> = direct.iter().map(|(trace, ..)| trace.as_str()).collect();
    assert_eq!(traces, ["new", "new", SAMPLED, SAMPLED, WITH_STATE, "new", "new"]);
    assert_eq!(recorded_spans(&Curl::http1(), gateway.http1), direct, "HTTP/1.1");
    assert_eq!(recorded_spans(&Curl::h2c(), gateway.h2c), direct, "HTTP/2");
    println!("{} spans of {} requests, with and without the gateway", direct.len(), requests().len());
}
