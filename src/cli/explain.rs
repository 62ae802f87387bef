//! `explain`: the exact answer that a client would get for a cause or an upstream's status, and which rule decided.
//!
//! Nothing is served and nothing is guessed: the ruling and the reply come from the functions that the request path
//! calls (`ErrorContext`), the bytes from the door's own writer, the labels from a real registry and the log line from the
//! real log. What a lone cause leaves open (in which phase it is raised, whether a route is known by then) is filled in by
//! [`cause_defaults`]; [`explanation`] asks, [`print`](mod@print) shows.

mod cause_defaults;
mod explanation;
mod print;
mod rate_limits;

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use http::Method;

use super::check::ReportFormat;
use super::run::print_message;
use super::{ConfigArg, load_or_exit};
use crate::config::{self, Config, deserialize, validator};
use crate::contract::policy::UPSTREAM_RESPONSE;
use crate::contract::{Cause, Phase, RequestSent, Trigger};
use crate::http::cors;

use cause_defaults::CauseDefaults;
use explanation::Explanation;
use rate_limits::{RateLimitState, RequestPosition};

/// The exit status of a command line that cannot be followed.
const EXIT_USAGE: u8 = 2;

/// What is asked.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("what").required(true)))]
pub struct ExplainOptions {
    /// The cause, by its name, such as connection_refused; `statusquo codes` lists them all.
    #[arg(long, group = "what", value_parser = parse_cause)]
    cause: Option<Cause>,
    /// The error that the upstream answered by itself, 400 to 599.
    #[arg(long, group = "what", value_name = "STATUS", value_parser = clap::value_parser!(u16).range(400..=599))]
    upstream_status: Option<u16>,
    /// The route of the request; by default the first one of the file, or of --upstream.
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    /// The upstream of the request; by default that of the route.
    #[arg(long, value_name = "NAME")]
    upstream: Option<String>,
    /// The method of the request.
    #[arg(long, default_value = "GET", value_parser = parse_method)]
    method: Method,
    /// How much of the request had reached the upstream; by default what is usual for the cause. It is read in
    /// `request_sent` and `retryable`, where `errors.include` asks for them.
    #[arg(long, value_enum, value_name = "HOW_MUCH")]
    request_sent: Option<RequestSentArg>,
    /// The origin of the page whose script asks, such as `https://app.example.com`; it is read where there is `cors`.
    #[arg(long)]
    origin: Option<String>,
    #[command(flatten)]
    file: ConfigArg,
    /// How the answer is printed.
    #[arg(long, value_enum, default_value_t)]
    format: ReportFormat,
}

/// How much of a request had reached the upstream.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum RequestSentArg {
    /// Not a byte.
    None,
    /// Some of it.
    Partial,
    /// All of it.
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

/// Prints the answer: 0, 2 when a name is not in the file, 78 when the file is refused, 1 when nobody takes the output.
pub fn run(options: &ExplainOptions) -> ExitCode {
    let config = match load_or_exit(&options.file.file) {
        Ok(config) => config,
        Err(rate_limited) => return rate_limited,
    };
    let input = match resolve(options, &config) {
        Ok(input) => input,
        Err(sentence) => {
            print_message(&sentence);
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

/// What is to be explained, with nothing left open.
#[derive(Debug)]
struct ExplainInput<'a> {
    trigger: Trigger,
    /// Number in the file, and the route; `None` where no route is known when the cause is raised.
    route: Option<(usize, &'a config::RouteConfig)>,
    upstream: Option<&'a str>,
    /// GET where the request is not known.
    method: &'a Method,
    is_head: bool,
    defaults: CauseDefaults,
    request_sent: RequestSent,
    /// The rules of cross-origin sharing that hold, and for whom.
    cors_policy: Option<&'a Arc<cors::CorsPolicy>>,
    origin: Option<&'a str>,
    /// What the rate limits of the route say.
    rate_limits: RateLimitState<'a>,
    limit_headers: config::LimitHeaders,
    /// What had to be assumed.
    notes: Vec<String>,
}

/// Fills in what the command line leaves open.
fn resolve<'a>(options: &'a ExplainOptions, config: &'a Config) -> Result<ExplainInput<'a>, String> {
    let rate_limited = options.cause == Some(Cause::RateLimited);
    let chosen = choose_route(options, config, rate_limited)?;
    let (trigger, defaults) = match (options.cause, options.upstream_status) {
        (Some(cause), _) => (Trigger::Fault(cause), CauseDefaults::for_cause(cause, options.route.is_some())),
        // clap lets nobody by without one of the two.
        (None, status) => {
            (Trigger::UpstreamStatus(status.unwrap_or(500)), CauseDefaults::FOR_UPSTREAM_RESPONSE)
        }
    };
    let mut notes = Vec::new();
    if let Some(note) = defaults.note {
        notes.push(note.to_owned());
    }
    if !defaults.has_route && (options.route.is_some() || options.upstream.is_some()) {
        notes.push(format!("{} is raised without a route: only the top-level errors hold.", trigger.name()));
    }
    if !defaults.has_request && options.method != Method::GET {
        notes.push(
            "Nothing is known of the request by then, but that an answer to HEAD has no body.".to_owned(),
        );
    }
    let route = chosen.filter(|_| defaults.has_route);
    if rate_limited && !route.is_some_and(|(_, route)| rate_limits::is_limited(config, route)) {
        notes.push("No rate limit of this route refuses anything.".to_owned());
    }
    if let (Some((_, route)), None) = (route, &options.route)
        && config.routes.len() > 1
    {
        let count = config.routes.len();
        notes.push(format!("{} is one of {count} routes; --route chooses another.", route.name));
    }
    // The answer to a panic knows what is in memory; a store that does not answer says nothing.
    let position = match trigger {
        _ if rate_limited => RequestPosition::OverLimit,
        Trigger::Fault(Cause::LimiterUnavailable | Cause::ProxyInternalError) => {
            RequestPosition::FirstWithoutStores
        }
        Trigger::Fault(_) | Trigger::UpstreamStatus(_) => RequestPosition::First,
    };
    Ok(ExplainInput {
        trigger,
        route,
        upstream: route
            .and_then(|(_, route)| config.upstreams.get(route.upstream))
            .map(|entry| entry.name.as_str()),
        method: if defaults.has_request { &options.method } else { &GET_METHOD },
        is_head: options.method == Method::HEAD,
        cors_policy: match chosen.filter(|_| defaults.has_route || defaults.phase == Phase::Internal) {
            // A bug of ours strikes on a route, although its counters no longer know which.
            Some((_, route)) => route.cors.as_ref(),
            None => config.cors.as_ref(),
        },
        origin: options.origin.as_deref(),
        // What strikes after they were asked wears what they said, even where nothing else is known any more.
        rate_limits: chosen
            .filter(|_| defaults.has_route || defaults.phase == Phase::Internal)
            .map_or_else(RateLimitState::default, |(_, route)| {
                rate_limits::evaluate(config, route, position)
            }),
        limit_headers: config.rate_limit_headers,
        request_sent: options.request_sent.map_or(defaults.request_sent, RequestSent::from),
        defaults,
        notes,
    })
}

static GET_METHOD: Method = Method::GET;

/// The route that was named, or the first that leads to the upstream that was named; where neither was, one with limits
/// precedes if that is asked for.
fn choose_route<'a>(
    options: &ExplainOptions,
    config: &'a Config,
    limited: bool,
) -> Result<Option<(usize, &'a config::RouteConfig)>, String> {
    let upstream = match &options.upstream {
        None => None,
        Some(name) => {
            Some(config.upstreams.iter().position(|entry| entry.name == *name).ok_or_else(|| {
                let names: Vec<&str> = config.upstreams.iter().map(|entry| entry.name.as_str()).collect();
                format!("there is no upstream \"{name}\"; {}", deserialize::did_you_mean(name, &names))
            })?)
        }
    };
    let mut candidates = config
        .routes
        .iter()
        .enumerate()
        .filter(|(_, entry)| upstream.is_none_or(|number| number == entry.upstream));
    match (&options.route, &options.upstream) {
        (Some(name), _) => {
            let found = config.routes.iter().enumerate().find(|(_, entry)| entry.name == *name);
            let (number, route) = found.ok_or_else(|| {
                let names: Vec<&str> = config.routes.iter().map(|entry| entry.name.as_str()).collect();
                format!("there is no route \"{name}\"; {}", deserialize::did_you_mean(name, &names))
            })?;
            if upstream.is_some_and(|number| number != route.upstream) {
                let route_upstream =
                    config.upstreams.get(route.upstream).map_or("", |entry| entry.name.as_str());
                return Err(format!(
                    "the route \"{name}\" leads to the upstream \"{route_upstream}\"; leave one of the two out"
                ));
            }
            Ok(Some((number, route)))
        }
        (None, Some(name)) => {
            candidates.next().map(Some).ok_or_else(|| format!("no route leads to the upstream \"{name}\""))
        }
        (None, None) => {
            let limited =
                candidates.clone().find(|(_, entry)| limited && rate_limits::is_limited(config, entry));
            Ok(limited.or_else(|| candidates.next()))
        }
    }
}

fn parse_cause(name: &str) -> Result<Cause, String> {
    Cause::from_name(name).ok_or_else(|| {
        if name == UPSTREAM_RESPONSE {
            return "the upstream's own errors differ by status: use --upstream-status".to_owned();
        }
        let names: Vec<&str> = Cause::ALL.iter().map(|cause| cause.name()).collect();
        match config::problem::closest_match(name, names.iter().copied()) {
            Some(suggestion) => format!("there is no such cause; did you mean {suggestion}?"),
            None => "there is no such cause; `statusquo codes` lists them".to_owned(),
        }
    })
}

fn parse_method(text: &str) -> Result<Method, String> {
    validator::method(text).map_err(|error| format!("{}; {}", error.message, error.help))
}
