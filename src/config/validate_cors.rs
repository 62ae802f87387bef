//! Checks the sections `cors`: origins, methods and fields that a browser would understand, and no star beside credentials.
//!
//! What an origin is, and what follows from the rules, is [`crate::protocol::cors`]'s to know; here its verdicts get their
//! sentence and their place.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};

use super::checker::{Checker, field_name, method};
use super::error::{Refusal, quoted};
use super::file::cors::{CorsFile, CorsForm, CorsWord};
use super::file::forms::DurationText;
use super::tree::Place;
use crate::protocol::cors::{AllowedOrigins, CorsPolicy, CorsRules};
use crate::protocol::origin::{InvalidOriginPattern, OriginPattern};

/// The top-level rules, if there are any.
pub fn top(checker: &mut Checker<'_>, file: Option<&CorsFile>) -> Option<CorsRules> {
    let root = Place::Root;
    file.map(|file| rules(checker, &root.key("cors"), file))
}

/// The policy of a route that takes `methods`; `top` are the top-level rules.
pub fn route(
    checker: &mut Checker<'_>,
    at: &Place<'_>,
    form: Option<&CorsForm>,
    top: Option<&CorsRules>,
    methods: &[Method],
) -> Option<Arc<CorsPolicy>> {
    let mut rules = match form? {
        CorsForm::Long(file) => rules(checker, at, file),
        CorsForm::Short(CorsWord::Default) => {
            let root = Place::Root;
            if top.is_none() && !checker.tree.is_written(&root.key("cors")) {
                let refusal = Refusal::new(
                    "there is no top-level cors to take over",
                    "write one, or the keys here: cors: { allow_origins: [\"https://app.example.com\"] }",
                );
                checker.refuse(at, refusal);
            }
            top?.clone()
        }
    };
    if rules.methods.is_empty() {
        rules.methods = methods.to_vec();
    }
    Some(Arc::new(CorsPolicy::new(rules)))
}

fn rules(checker: &mut Checker<'_>, at: &Place<'_>, file: &CorsFile) -> CorsRules {
    let credentials = file.allow_credentials.unwrap_or(false);
    let methods_at = at.key("allow_methods");
    if file.allow_methods.as_ref().is_some_and(Vec::is_empty) && !checker.tree.any_refused(&methods_at) {
        checker.refuse(&methods_at, Refusal::new("no method is listed", "remove it to allow the route's"));
    }
    CorsRules {
        origins: origins(checker, &at.key("allow_origins"), file, credentials),
        credentials,
        methods: checker.list(&methods_at, file.allow_methods.as_ref(), allowed_method),
        headers: file
            .allow_headers
            .as_ref()
            .map(|names| checker.list(&at.key("allow_headers"), Some(names), allowed_header)),
        expose: checker.list(&at.key("expose_headers"), file.expose_headers.as_ref(), |text| {
            exposed_header(text, credentials)
        }),
        max_age: max_age(checker, &at.key("max_age"), file.max_age.as_ref()),
    }
}

fn origins(checker: &mut Checker<'_>, at: &Place<'_>, file: &CorsFile, credentials: bool) -> AllowedOrigins {
    const REMEDY: &str = "list at least one, for example allow_origins: [\"https://app.example.com\"]";
    match &file.allow_origins {
        None => checker.missing(at, REMEDY),
        Some(list) if list.is_empty() && !checker.tree.any_refused(at) => {
            checker.refuse(at, Refusal::new("no origin is listed", REMEDY));
        }
        Some(_) => {}
    }
    let mut patterns: Vec<OriginPattern> = Vec::new();
    let mut any = false;
    for (index, text) in file.allow_origins.iter().flatten().enumerate() {
        let item = at.item(index);
        if text == "*" {
            any = true;
            if credentials {
                let refusal = Refusal::new(
                    "with allow_credentials every page on the web could act as your users",
                    "list the origins, or remove allow_credentials",
                );
                checker.refuse(&item, refusal);
            } else if file.allow_origins.as_ref().is_some_and(|list| list.len() > 1) {
                let refusal = Refusal::new("\"*\" is every origin already", "keep it alone, or remove it");
                checker.refuse(&item, refusal);
            }
            continue;
        }
        let Some(pattern) = checker.accept(&item, pattern(text)) else { continue };
        if patterns.contains(&pattern) {
            checker.refuse(&item, Refusal::new(format!("{} is listed twice", quoted(text)), "keep one"));
        }
        patterns.push(pattern);
    }
    if any { AllowedOrigins::Any } else { AllowedOrigins::Listed(patterns) }
}

fn pattern(text: &str) -> Result<OriginPattern, Refusal> {
    OriginPattern::parse(text).map_err(|bad| {
        let not = |remedy: String| Refusal::new(format!("{} is not an origin", quoted(text)), remedy);
        match bad {
            InvalidOriginPattern::Null => Refusal::new(
                "\"null\" is what every sandboxed page calls itself, so it is never allowed",
                "serve the page from an origin, and list that",
            ),
            InvalidOriginPattern::MissingScheme => {
                not(format!("begin with the scheme, for example {}", quoted(&with_scheme(text))))
            }
            InvalidOriginPattern::HasPath(only) => {
                not(format!("browsers send no path: write {}", quoted(only)))
            }
            InvalidOriginPattern::MisplacedWildcard => {
                not("a star stands for whole labels in front of a name: \"https://*.example.com\"".to_owned())
            }
            InvalidOriginPattern::InvalidHost if !text.is_ascii() => {
                not("write the host as browsers send it, in its xn-- form".to_owned())
            }
            InvalidOriginPattern::InvalidHost => {
                not("expected scheme://host or scheme://host:port, for example \"https://app.example.com\""
                    .to_owned())
            }
            InvalidOriginPattern::InvalidPort => not("the port is a number from 1 to 65535".to_owned()),
        }
    })
}

/// What was probably meant.
fn with_scheme(text: &str) -> String {
    let host = text.trim_start_matches("://").trim_start_matches('/');
    let host = host.split(['/', '?', '#']).next().unwrap_or_default();
    let guess = format!("https://{host}");
    if OriginPattern::parse(&guess).is_ok() { guess } else { "https://app.example.com".to_owned() }
}

fn allowed_method(text: &str) -> Result<Method, Refusal> {
    if text == "*" {
        let refusal = Refusal::new("\"*\" is not a method", "remove allow_methods to allow the route's");
        return Err(refusal);
    }
    method(text)
}

fn allowed_header(text: &str) -> Result<HeaderName, Refusal> {
    if text == "*" {
        let refusal =
            Refusal::new("\"*\" is not a field name", "remove allow_headers to allow those asked for");
        return Err(refusal);
    }
    field_name(text)
}

fn exposed_header(text: &str, credentials: bool) -> Result<HeaderName, Refusal> {
    if text == "*" && credentials {
        let refusal =
            Refusal::new("with allow_credentials browsers take \"*\" for a name", "name the fields");
        return Err(refusal);
    }
    field_name(text)
}

fn max_age(checker: &mut Checker<'_>, at: &Place<'_>, text: Option<&DurationText>) -> Option<Duration> {
    let age = checker.time_or_zero(at, text)?;
    if age.subsec_nanos() != 0 || age > Duration::from_secs(86_400) {
        let written = text.map_or("", |text| text.0.as_str());
        let what = format!("{} cannot be sent as Access-Control-Max-Age", quoted(written));
        checker.refuse(at, Refusal::new(what, "write whole seconds, at most 1d"));
        return None;
    }
    Some(age)
}
