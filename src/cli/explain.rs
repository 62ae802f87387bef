//! `explain`: prints the exact response that a client would get for a cause or an upstream status code, and which rule
//! decides.
//!
//! Nothing is served. The decision and the reply come from the functions of the request path (`ErrorContext`), the
//! bytes from the writer of local replies, the labels from a metrics registry and the log line from the access log.
//! [`cause_defaults`] supplies what a cause alone does not determine (its phase, and whether a route is known),
//! [`deciding_keys`] the keys of the file that decide when it occurs; [`explanation`] builds the result and
//! [`print`](mod@print) formats it.

mod cause_defaults;
mod deciding_keys;
mod explanation;
mod listener;
mod print;
mod rate_limits;
mod route_state;
mod upstream_body;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use http::{HeaderValue, Method};

use super::check::ReportFormat;
use super::run::print_message;
use super::{ConfigArg, load_or_exit};
use crate::config::{self, Config, RouteAction, problem, units};
use crate::contract::causes::UPSTREAM_RESPONSE;
use crate::contract::{BodyFormat, Cause, RequestSent, Trigger};
use crate::http::cors;
use crate::snapshot::error_context;

use cause_defaults::CauseDefaults;
use explanation::Explanation;
use rate_limits::{RateLimitState, RequestPosition};
use upstream_body::UpstreamBody;

/// The exit status for an invalid command line.
const EXIT_USAGE: u8 = 2;

/// The options of `explain`.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("what").required(true)))]
pub(crate) struct ExplainOptions {
    /// The name of the cause, such as connection_refused; `statusquo codes` lists all causes.
    #[arg(long, group = "what", value_parser = parse_cause)]
    cause: Option<Cause>,
    /// The status code of an upstream error response, 400 to 599.
    #[arg(long, group = "what", value_name = "STATUS", value_parser = parse_status)]
    upstream_status: Option<u16>,
    /// The route of the request; by default the first route of the file, or of --upstream.
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    /// The upstream of the request; by default the upstream of the route.
    #[arg(long, value_name = "NAME")]
    upstream: Option<String>,
    /// The method of the request.
    #[arg(long, default_value = "GET", value_parser = parse_method)]
    method: Method,
    /// How much of the request was sent to the upstream; by default the usual value for the cause. It appears in
    /// `request_sent` and `retryable`, if `errors.include` contains them.
    #[arg(long, value_enum, value_name = "HOW_MUCH")]
    request_sent: Option<RequestSentArg>,
    /// The body of the upstream's error: a file, or `-` for standard input. Shows what the client receives of it.
    #[arg(long, value_name = "FILE", requires = "upstream_status", conflicts_with = "cause")]
    upstream_body: Option<PathBuf>,
    /// The Content-Type of that body; by default the contract's for JSON, else text/html or text/plain.
    #[arg(long, value_name = "TYPE", requires = "upstream_body")]
    upstream_content_type: Option<HeaderValue>,
    /// The Accept field of the request, such as application/problem+json; used if errors.format is negotiate.
    #[arg(long, value_name = "VALUE")]
    accept: Option<HeaderValue>,
    /// The listener of a request whose host is unknown, such as 127.0.0.1:8080: its contract applies.
    #[arg(long, value_name = "ADDRESS")]
    listener: Option<String>,
    /// The origin of the requesting page, such as `https://app.example.com`; used if a CORS policy applies.
    #[arg(long)]
    origin: Option<String>,
    #[command(flatten)]
    file: ConfigArg,
    /// The output format.
    #[arg(long, value_enum, default_value_t)]
    format: ReportFormat,
}

/// How much of a request was sent to the upstream.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum RequestSentArg {
    /// Nothing.
    None,
    /// A part.
    Partial,
    /// Everything.
    Full,
}

impl From<RequestSentArg> for RequestSent {
    fn from(sent: RequestSentArg) -> Self {
        match sent {
            RequestSentArg::None => RequestSent::None,
            RequestSentArg::Partial => RequestSent::Partial,
            RequestSentArg::Full => RequestSent::Full,
        }
    }
}

/// Prints the explanation. The exit status is 2 for a name that is not in the file, 78 for an invalid file, and 1 if
/// the output could not be written.
pub(crate) fn run(options: &ExplainOptions) -> ExitCode {
    let config = match load_or_exit(&options.file.file, options.format) {
        Ok(config) => config,
        Err(exit_code) => return exit_code,
    };
    let input = match resolve(options, &config) {
        Ok(input) => input,
        Err(message) => {
            print_message(&message);
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let explanation = Explanation::of(&config, &input);
    let text = match options.format {
        ReportFormat::Text => print::text(&input, &explanation),
        ReportFormat::Json => print::json(&input, &explanation),
    };
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// The error to explain, with all defaults applied.
#[derive(Debug)]
struct ExplainInput<'a> {
    trigger: Trigger,
    /// The index in the file and the route; `None` if no route is known when the cause is raised.
    route: Option<(usize, &'a config::RouteConfig)>,
    upstream: Option<&'a str>,
    /// GET if the request is not known.
    method: &'a Method,
    is_head: bool,
    defaults: CauseDefaults,
    request_sent: RequestSent,
    /// The CORS policy that applies.
    cors_policy: Option<&'a Arc<cors::CorsPolicy>>,
    origin: Option<&'a str>,
    /// The route whose `response_headers` apply.
    edited_by: Option<&'a config::RouteConfig>,
    /// The results of the route's rate limits.
    rate_limits: RateLimitState<'a>,
    /// The rules of the response.
    errors: &'a config::ErrorSettings,
    limit_headers: config::LimitHeaders,
    /// The value of `Allow`.
    allow: Option<HeaderValue>,
    /// The format of the body that the client prefers.
    format: BodyFormat,
    /// The upstream's response, if its body is given.
    upstream_body: Option<UpstreamBody>,
    /// The assumptions that were made.
    notes: Vec<String>,
}

/// Applies defaults to the command line.
fn resolve<'a>(options: &'a ExplainOptions, config: &'a Config) -> Result<ExplainInput<'a>, String> {
    let rate_limited = options.cause == Some(Cause::RateLimited);
    let chosen = choose_route(options, config)?;
    let (trigger, defaults) = match (options.cause, options.upstream_status) {
        (Some(cause), _) => (Trigger::Fault(cause), CauseDefaults::for_cause(cause, options.route.is_some())),
        // clap requires one of the two.
        (None, status) => {
            (Trigger::UpstreamStatus(status.unwrap_or(500)), CauseDefaults::FOR_UPSTREAM_RESPONSE)
        }
    };
    let mut notes = Vec::new();
    if let Some(cause) = options.cause.filter(|cause| cause.is_reserved()) {
        notes.push(format!("{} is reserved for a later version: it never occurs.", cause.name()));
    }
    if let Some(note) = defaults.note {
        notes.push(note.to_owned());
    }
    if !defaults.has_route && (options.route.is_some() || options.upstream.is_some()) {
        notes.push(format!(
            "{} is raised without a route: the rules of the first route whose host matches apply, else those of the listener.",
            trigger.name()
        ));
    }
    if !defaults.has_request && options.method != Method::GET {
        notes.push(
            "The method is not known at that point, except that a response to HEAD has no body.".to_owned(),
        );
    }
    let route = chosen.filter(|_| defaults.has_route);
    let listener = options.listener.as_deref().map(|text| listener::find(text, config)).transpose()?;
    let given = (listener.is_some(), options.route.is_some());
    let host_is_unknown = !defaults.has_route && listener::host_is_unknown(options.cause, given);
    let rules_of = chosen
        .filter(|_| !host_is_unknown)
        .map(|(_, chosen)| rules_route(config, chosen, &defaults, options.cause));
    let errors = rules_of.map_or_else(|| listener::rules(listener, config), |route| &route.errors);
    let upstream_body = match (&options.upstream_body, trigger) {
        (Some(file), Trigger::UpstreamStatus(status)) => {
            let media_type = options.upstream_content_type.as_ref();
            Some(UpstreamBody::read(file, status, media_type, &errors.contract)?)
        }
        (Some(_) | None, _) => None,
    };
    if !defaults.has_route {
        notes.extend(listener::note(listener, host_is_unknown, config));
    } else if listener.is_some() {
        notes.push(
            "The request reaches a route, whose contract applies: --listener has no effect.".to_owned(),
        );
    }
    notes.extend(assumptions(options, errors, upstream_body.as_ref()));
    notes.extend(route.and_then(|(_, route)| route_state::note(route, trigger, defaults.phase)));
    if rate_limited && !route.is_some_and(|(_, route)| rate_limits::is_limited(config, route)) {
        notes.push("No rate limit of this route denies requests.".to_owned());
    }
    if let (Some((_, route)), Some(cause)) = (route, options.cause)
        && let Some(upstream) = route.upstream.and_then(|index| config.upstreams.get(index))
        && let Some(note) = deciding_keys::note(cause, route, upstream)
    {
        notes.push(note);
    }
    if let (Some((_, route)), None) = (route, &options.route)
        && config.routes.len() > 1
    {
        let count = config.routes.len();
        notes.push(format!("{} is one of {count} routes; --route selects another.", route.name));
    }
    let allow = match (options.cause, chosen) {
        (Some(Cause::MethodNotAllowed), Some((_, route))) => {
            notes.push(route_state::allow_note(route));
            route_state::allow(config, route)
        }
        _ => None,
    };
    // The response to a panic reports in-memory limits; an unavailable backend reports nothing.
    let position = match trigger {
        _ if rate_limited => RequestPosition::OverLimit,
        Trigger::Fault(Cause::LimiterUnavailable | Cause::ProxyInternalError) => {
            RequestPosition::FirstWithoutStores
        }
        // What is denied before the limits is not counted.
        Trigger::Fault(
            Cause::Maintenance | Cause::HttpRequestDenied | Cause::BodyTooLarge | Cause::ProxyLoopDetected,
        ) => RequestPosition::NotCounted,
        Trigger::Fault(_) | Trigger::UpstreamStatus(_) => RequestPosition::First,
    };
    Ok(ExplainInput {
        trigger,
        route,
        upstream: route
            .and_then(|(_, route)| config.upstreams.get(route.upstream?))
            .map(|entry| entry.name.as_str()),
        method: if defaults.has_request { &options.method } else { &GET_METHOD },
        is_head: options.method == Method::HEAD,
        edited_by: route.map(|(_, route)| route),
        cors_policy: match rules_of {
            Some(route) if defaults.has_route => route.cors.as_ref(),
            Some(route) => route.cors.as_ref().or(config.cors.as_ref()),
            None => config.cors.as_ref(),
        },
        errors,
        format: error_context::body_format(errors, options.accept.iter().map(HeaderValue::as_bytes)),
        upstream_body,
        origin: options.origin.as_deref(),
        rate_limits: route.map_or_else(RateLimitState::default, |(_, route)| {
            rate_limits::evaluate(config, route, position)
        }),
        limit_headers: config.rate_limit_headers,
        allow,
        request_sent: options.request_sent.map_or(defaults.request_sent, RequestSent::from),
        defaults,
        notes,
    })
}

static GET_METHOD: Method = Method::GET;

/// What was assumed about the client and the body, where an option would change it.
fn assumptions(
    options: &ExplainOptions,
    errors: &config::ErrorSettings,
    body: Option<&UpstreamBody>,
) -> impl Iterator<Item = String> {
    let format = match (&options.accept, errors.negotiate) {
        (None, true) => Some(
            "errors.format is negotiate: --accept application/problem+json shows what a client gets that prefers problem \
             documents.",
        ),
        (Some(_), false) => Some("errors.format is contract: the body is the same for every --accept."),
        (None, false) | (Some(_), true) => None,
    };
    let assumed_type = body.and_then(|body| body.assumed_type.as_ref()).map(|assumed| {
        let assumed = assumed.to_str().unwrap_or_default();
        format!("The Content-Type of the upstream's body is assumed to be {assumed}: --upstream-content-type sets it.")
    });
    format.map(str::to_owned).into_iter().chain(assumed_type)
}

/// The route whose rules the response has: that of the request, or for a request without a route the first one of the
/// file whose host is the same.
fn rules_route<'a>(
    config: &'a Config,
    chosen: &'a config::RouteConfig,
    defaults: &CauseDefaults,
    cause: Option<Cause>,
) -> &'a config::RouteConfig {
    if defaults.has_route {
        return chosen;
    }
    let first = config.routes.iter().find(|route| {
        let same_path = cause != Some(Cause::MethodNotAllowed) || route.path == chosen.path;
        same_path && (route.host.is_none() || route.host == chosen.host)
    });
    first.unwrap_or(chosen)
}

/// The route of `--route`, or the first route of `--upstream`; with neither, the first on which the error can occur,
/// else the first.
fn choose_route<'a>(
    options: &ExplainOptions,
    config: &'a Config,
) -> Result<Option<(usize, &'a config::RouteConfig)>, String> {
    let upstream = match &options.upstream {
        None => None,
        Some(name) => {
            Some(config.upstreams.iter().position(|entry| entry.name == *name).ok_or_else(|| {
                let names: Vec<&str> = config.upstreams.iter().map(|entry| entry.name.as_str()).collect();
                format!("unknown upstream \"{name}\"; {}", problem::did_you_mean(name, &names))
            })?)
        }
    };
    let mut candidates = config
        .routes
        .iter()
        .enumerate()
        .filter(|(_, entry)| upstream.is_none_or(|number| Some(number) == entry.upstream));
    match (&options.route, &options.upstream) {
        (Some(name), _) => {
            let named_route = config.routes.iter().enumerate().find(|(_, entry)| entry.name == *name);
            let (number, route) = named_route.ok_or_else(|| {
                let names: Vec<&str> = config.routes.iter().map(|entry| entry.name.as_str()).collect();
                format!("unknown route \"{name}\"; {}", problem::did_you_mean(name, &names))
            })?;
            if upstream.is_some_and(|number| Some(number) != route.upstream) {
                let route_upstream = route.upstream.and_then(|index| config.upstreams.get(index));
                let route_upstream = route_upstream.map_or("", |entry| entry.name.as_str());
                return Err(format!(
                    "route \"{name}\" uses upstream \"{route_upstream}\"; remove --route or --upstream"
                ));
            }
            Ok(Some((number, route)))
        }
        (None, Some(name)) => {
            candidates.next().map(Some).ok_or_else(|| format!("no route uses the upstream \"{name}\""))
        }
        (None, None) => {
            let possible = |(_, entry): &(usize, &config::RouteConfig)| match options.cause {
                Some(Cause::RateLimited) => rate_limits::is_limited(config, entry),
                Some(Cause::Maintenance) => entry.maintenance.is_some(),
                Some(Cause::RouteResponse) => matches!(entry.action, RouteAction::RespondWithError),
                Some(Cause::HttpRequestDenied) => route_state::denies(entry),
                Some(Cause::MethodNotAllowed) => !entry.methods.is_empty(),
                Some(_) | None => entry.upstream.is_some() && entry.maintenance.is_none(),
            };
            let possible = candidates.clone().find(possible);
            Ok(possible.or_else(|| candidates.next()))
        }
    }
}

fn parse_cause(name: &str) -> Result<Cause, String> {
    Cause::from_name(name).ok_or_else(|| {
        if name == UPSTREAM_RESPONSE {
            return "errors of the upstream depend on the status code; use --upstream-status".to_owned();
        }
        let names: Vec<&str> = Cause::ALL.iter().map(|cause| cause.name()).collect();
        match config::problem::closest_match(name, names.iter().copied()) {
            Some(suggestion) => format!("unknown cause; did you mean {suggestion}?"),
            None => "unknown cause; `statusquo codes` lists all causes".to_owned(),
        }
    })
}

fn parse_status(text: &str) -> Result<u16, String> {
    let status = text.parse().ok().filter(|status| (400..=599).contains(status));
    status.ok_or_else(|| "expected the status code of an error, 400 to 599".to_owned())
}

fn parse_method(text: &str) -> Result<Method, String> {
    units::method(text).map_err(|error| format!("{}; {}", error.message, error.help))
}
