//! `explain`: the exact answer that a client would get for a cause or an upstream's status, and which rule decided.
//!
//! Nothing is served and nothing is guessed: the ruling and the reply come from the functions that the request path
//! calls (`ErrorContext`), the bytes from the door's own writer, the labels from a real registry and the log line from the
//! real log. What a lone cause leaves open (in which phase it is raised, whether a route is known by then) is filled in by
//! [`usual`]; [`made`] asks, [`print`](mod@print) shows.

mod limits;
mod made;
mod print;
mod usual;

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use http::Method;

use super::check::Format;
use super::run::say;
use super::{File, load};
use crate::config::{self, Config, checker, read};
use crate::contract::policy::UPSTREAM_RESPONSE;
use crate::contract::{Cause, Phase, RequestSent, Trigger};
use crate::protocol::cors;

use limits::{Limited, Which};
use made::Explanation;
use usual::Usual;

/// The exit status of a command line that cannot be followed.
const USAGE: u8 = 2;

/// What is asked.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("what").required(true)))]
pub struct Options {
    /// The cause, by its name, such as connection_refused; `statusquo codes` lists them all.
    #[arg(long, group = "what", value_parser = cause)]
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
    #[arg(long, default_value = "GET", value_parser = method)]
    method: Method,
    /// How much of the request had reached the upstream; by default what is usual for the cause. It is read in
    /// `request_sent` and `retryable`, where `errors.include` asks for them.
    #[arg(long, value_enum, value_name = "HOW_MUCH")]
    request_sent: Option<Sent>,
    /// The origin of the page whose script asks, such as `https://app.example.com`; it is read where there is `cors`.
    #[arg(long)]
    origin: Option<String>,
    #[command(flatten)]
    file: File,
    /// How the answer is printed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// How much of a request had reached the upstream.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Sent {
    /// Not a byte.
    None,
    /// Some of it.
    Partial,
    /// All of it.
    Full,
}

impl From<Sent> for RequestSent {
    fn from(sent: Sent) -> Self {
        match sent {
            Sent::None => RequestSent::None,
            Sent::Partial => RequestSent::Partial,
            Sent::Full => RequestSent::Full,
        }
    }
}

/// Prints the answer: 0, 2 when a name is not in the file, 78 when the file is refused, 1 when nobody takes the output.
pub fn run(options: &Options) -> ExitCode {
    let config = match load(&options.file.file) {
        Ok(config) => config,
        Err(refused) => return refused,
    };
    let question = match ask(options, &config) {
        Ok(question) => question,
        Err(sentence) => {
            say(&sentence);
            return ExitCode::from(USAGE);
        }
    };
    let explanation = Explanation::of(&config, &question);
    let text = match options.format {
        Format::Text => print::text(&question, &explanation),
        Format::Json => print::json(&question, &explanation),
    };
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// What is to be explained, with nothing left open.
#[derive(Debug)]
struct Question<'a> {
    case: Trigger,
    /// Number in the file, and the route; `None` where no route is known when the cause is raised.
    route: Option<(usize, &'a config::RouteConfig)>,
    upstream: Option<&'a str>,
    /// GET where the request is not known.
    method: &'a Method,
    is_head: bool,
    usual: Usual,
    sent: RequestSent,
    /// The rules of cross-origin sharing that hold, and for whom.
    sharing: Option<&'a Arc<cors::CorsPolicy>>,
    origin: Option<&'a str>,
    /// What the rate limits of the route say.
    limited: Limited<'a>,
    limit_headers: config::LimitHeaders,
    /// What had to be assumed.
    notes: Vec<String>,
}

/// Fills in what the command line leaves open.
fn ask<'a>(options: &'a Options, config: &'a Config) -> Result<Question<'a>, String> {
    let refused = options.cause == Some(Cause::RateLimited);
    let chosen = choose_route(options, config, refused)?;
    let (case, usual) = match (options.cause, options.upstream_status) {
        (Some(cause), _) => (Trigger::Fault(cause), Usual::of(cause, options.route.is_some())),
        // clap lets nobody by without one of the two.
        (None, status) => (Trigger::UpstreamStatus(status.unwrap_or(500)), Usual::OF_A_RESPONSE),
    };
    let mut notes = Vec::new();
    if let Some(note) = usual.note {
        notes.push(note.to_owned());
    }
    if !usual.has_route && (options.route.is_some() || options.upstream.is_some()) {
        notes.push(format!("{} is raised without a route: only the top-level errors hold.", case.name()));
    }
    if !usual.has_request && options.method != Method::GET {
        notes.push(
            "Nothing is known of the request by then, but that an answer to HEAD has no body.".to_owned(),
        );
    }
    let route = chosen.filter(|_| usual.has_route);
    if refused && !route.is_some_and(|(_, route)| limits::is_limited(config, route)) {
        notes.push("No rate limit of this route refuses anything.".to_owned());
    }
    if let (Some((_, route)), None) = (route, &options.route)
        && config.routes.len() > 1
    {
        let count = config.routes.len();
        notes.push(format!("{} is one of {count} routes; --route chooses another.", route.name));
    }
    // The answer to a panic knows what is in memory; a store that does not answer says nothing.
    let which = match case {
        _ if refused => Which::TooMany,
        Trigger::Fault(Cause::LimiterUnavailable | Cause::ProxyInternalError) => Which::WithoutStores,
        Trigger::Fault(_) | Trigger::UpstreamStatus(_) => Which::First,
    };
    Ok(Question {
        case,
        route,
        upstream: route
            .and_then(|(_, route)| config.upstreams.get(route.upstream))
            .map(|it| it.name.as_str()),
        method: if usual.has_request { &options.method } else { &GET },
        is_head: options.method == Method::HEAD,
        sharing: match chosen.filter(|_| usual.has_route || usual.phase == Phase::Internal) {
            // A bug of ours strikes on a route, although its counters no longer know which.
            Some((_, route)) => route.cors.as_ref(),
            None => config.cors.as_ref(),
        },
        origin: options.origin.as_deref(),
        // What strikes after they were asked wears what they said, even where nothing else is known any more.
        limited: chosen
            .filter(|_| usual.has_route || usual.phase == Phase::Internal)
            .map_or_else(Limited::default, |(_, route)| limits::ask(config, route, which)),
        limit_headers: config.rate_limit_headers,
        sent: options.request_sent.map_or(usual.sent, RequestSent::from),
        usual,
        notes,
    })
}

static GET: Method = Method::GET;

/// The route that was named, or the first that leads to the upstream that was named; where neither was, one with limits
/// precedes if that is asked for.
fn choose_route<'a>(
    options: &Options,
    config: &'a Config,
    limited: bool,
) -> Result<Option<(usize, &'a config::RouteConfig)>, String> {
    let upstream = match &options.upstream {
        None => None,
        Some(name) => Some(config.upstreams.iter().position(|it| it.name == *name).ok_or_else(|| {
            let names: Vec<&str> = config.upstreams.iter().map(|it| it.name.as_str()).collect();
            format!("there is no upstream \"{name}\"; {}", read::did_you_mean(name, &names))
        })?),
    };
    let mut leading = config
        .routes
        .iter()
        .enumerate()
        .filter(|(_, it)| upstream.is_none_or(|number| number == it.upstream));
    match (&options.route, &options.upstream) {
        (Some(name), _) => {
            let found = config.routes.iter().enumerate().find(|(_, it)| it.name == *name);
            let (number, route) = found.ok_or_else(|| {
                let names: Vec<&str> = config.routes.iter().map(|it| it.name.as_str()).collect();
                format!("there is no route \"{name}\"; {}", read::did_you_mean(name, &names))
            })?;
            if upstream.is_some_and(|number| number != route.upstream) {
                let own = config.upstreams.get(route.upstream).map_or("", |it| it.name.as_str());
                return Err(format!(
                    "the route \"{name}\" leads to the upstream \"{own}\"; leave one of the two out"
                ));
            }
            Ok(Some((number, route)))
        }
        (None, Some(name)) => {
            leading.next().map(Some).ok_or_else(|| format!("no route leads to the upstream \"{name}\""))
        }
        (None, None) => {
            let limited = leading.clone().find(|(_, it)| limited && limits::is_limited(config, it));
            Ok(limited.or_else(|| leading.next()))
        }
    }
}

fn cause(name: &str) -> Result<Cause, String> {
    Cause::from_name(name).ok_or_else(|| {
        if name == UPSTREAM_RESPONSE {
            return "the upstream's own errors differ by status: use --upstream-status".to_owned();
        }
        let names: Vec<&str> = Cause::ALL.iter().map(|cause| cause.name()).collect();
        match config::error::closest_match(name, names.iter().copied()) {
            Some(near) => format!("there is no such cause; did you mean {near}?"),
            None => "there is no such cause; `statusquo codes` lists them".to_owned(),
        }
    })
}

fn method(text: &str) -> Result<Method, String> {
    checker::method(text).map_err(|refusal| format!("{}; {}", refusal.message, refusal.help))
}
