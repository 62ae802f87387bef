"""An instrumented application with OpenTelemetry's default sampler; /spans lists the spans that it recorded."""

from flask import Flask
from opentelemetry import trace
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)

app = Flask(__name__)
FlaskInstrumentor().instrument_app(app, excluded_urls="spans")


@app.get("/work")
def work():
    return "done"


@app.get("/spans")
def spans():
    def described(span):
        state = span.context.trace_state.to_header() if span.context.trace_state else ""
        parent = format(span.parent.span_id, "016x") if span.parent else None
        return {"trace_id": format(span.context.trace_id, "032x"), "parent": parent, "state": state}

    recorded = [described(span) for span in exporter.get_finished_spans()]
    exporter.clear()
    return recorded
