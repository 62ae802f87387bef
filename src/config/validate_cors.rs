//! Checks the `cors` sections: origins, methods and field names, and no `*` together with credentials.
//!
//! [`crate::http::origin`] parses origins; its errors become diagnostics here.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};

use super::file::cors::{CorsFile, CorsForm, CorsWord};
use super::file::forms::DurationText;
use super::problem::{Diagnostic, quoted};
use super::tree::KeyPath;
use super::units::{header_name, method};
use super::validator::Validator;
use crate::http::cors::{AllowedOrigins, CorsPolicy, CorsRules};
use crate::http::origin::{InvalidOriginPattern, OriginPattern};

/// The top-level rules, if present.
pub(crate) fn top_level(validator: &mut Validator<'_>, file: Option<&CorsFile>) -> Option<CorsRules> {
    let root = KeyPath::Root;
    file.map(|file| rules(validator, &root.key("cors"), file))
}

/// The policy of a route that matches `methods`; `top_level` are the top-level rules.
pub(crate) fn route(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    form: Option<&CorsForm>,
    top_level: Option<&CorsRules>,
    methods: &[Method],
) -> Option<Arc<CorsPolicy>> {
    let mut rules = match form? {
        CorsForm::Long(file) => rules(validator, at, file),
        CorsForm::Short(CorsWord::Default) => {
            let root = KeyPath::Root;
            if top_level.is_none() && !validator.tree.is_written(&root.key("cors")) {
                let diagnostic = Diagnostic::new(
                    "\"default\" needs a top-level cors section",
                    "add one, or define the policy here: cors: { allow_origins: [\"https://app.example.com\"] }",
                );
                validator.report(at, diagnostic);
            }
            top_level?.clone()
        }
    };
    if rules.methods.is_empty() {
        rules.methods = methods.to_vec();
    }
    Some(Arc::new(CorsPolicy::new(rules)))
}

fn rules(validator: &mut Validator<'_>, at: &KeyPath<'_>, file: &CorsFile) -> CorsRules {
    let credentials = file.allow_credentials.unwrap_or(false);
    let methods_at = at.key("allow_methods");
    if file.allow_methods.as_ref().is_some_and(Vec::is_empty) && !validator.tree.any_invalid(&methods_at) {
        validator.report(
            &methods_at,
            Diagnostic::new("no method is listed", "remove the key to allow the methods of the route"),
        );
    }
    CorsRules {
        origins: origins(validator, &at.key("allow_origins"), file, credentials),
        credentials,
        methods: validator.list(&methods_at, file.allow_methods.as_ref(), allowed_method),
        headers: file
            .allow_headers
            .as_ref()
            .map(|names| validator.list(&at.key("allow_headers"), Some(names), allowed_header)),
        expose: validator.list(&at.key("expose_headers"), file.expose_headers.as_ref(), |text| {
            exposed_header(text, credentials)
        }),
        max_age: max_age(validator, &at.key("max_age"), file.max_age.as_ref()),
    }
}

fn origins(
    validator: &mut Validator<'_>,
    at: &KeyPath<'_>,
    file: &CorsFile,
    credentials: bool,
) -> AllowedOrigins {
    const HELP: &str = "list at least one, for example allow_origins: [\"https://app.example.com\"]";
    match &file.allow_origins {
        None => {}
        Some(list) if list.is_empty() && !validator.tree.any_invalid(at) => {
            validator.report(at, Diagnostic::new("no origin is listed", HELP));
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
                let diagnostic = Diagnostic::new(
                    "with allow_credentials, any website could send requests on behalf of your users",
                    "list the origins, or remove allow_credentials",
                );
                validator.report(&item, diagnostic);
            } else if file.allow_origins.as_ref().is_some_and(|list| list.len() > 1) {
                let diagnostic = Diagnostic::new(
                    "\"*\" already allows every origin",
                    "remove the other origins, or remove \"*\"",
                );
                validator.report(&item, diagnostic);
            }
            continue;
        }
        let Some(pattern) = validator.check(&item, pattern(text)) else { continue };
        if patterns.contains(&pattern) {
            validator.report(&item, Diagnostic::new(format!("{} is listed twice", quoted(text)), "keep one"));
        }
        patterns.push(pattern);
    }
    if any { AllowedOrigins::Any } else { AllowedOrigins::Listed(patterns) }
}

fn pattern(text: &str) -> Result<OriginPattern, Diagnostic> {
    OriginPattern::parse(text).map_err(|error| {
        let not_an_origin =
            |help: String| Diagnostic::new(format!("{} is not an origin", quoted(text)), help);
        match error {
            InvalidOriginPattern::Null => Diagnostic::new(
                "\"null\" is the origin of every sandboxed page, so it is never allowed",
                "serve the page from a named origin, and list that origin",
            ),
            InvalidOriginPattern::MissingScheme => {
                not_an_origin(format!("start with the scheme, for example {}", quoted(&suggest_origin(text))))
            }
            InvalidOriginPattern::HasPath(only) => {
                not_an_origin(format!("an origin has no path: write {}", quoted(only)))
            }
            InvalidOriginPattern::MisplacedWildcard => not_an_origin(
                "use * for whole leading labels only, for example \"https://*.example.com\"".to_owned(),
            ),
            InvalidOriginPattern::InvalidHost if !text.is_ascii() => {
                not_an_origin("write the host as browsers send it, in its xn-- form (Punycode)".to_owned())
            }
            InvalidOriginPattern::InvalidHost => not_an_origin(
                "expected scheme://host or scheme://host:port, for example \"https://app.example.com\""
                    .to_owned(),
            ),
            InvalidOriginPattern::InvalidPort => not_an_origin("use a port from 1 to 65535".to_owned()),
        }
    })
}

/// The origin that was probably intended.
fn suggest_origin(text: &str) -> String {
    let host = text.trim_start_matches("://").trim_start_matches('/');
    let host = host.split(['/', '?', '#']).next().unwrap_or_default();
    let suggestion = format!("https://{host}");
    if OriginPattern::parse(&suggestion).is_ok() { suggestion } else { "https://app.example.com".to_owned() }
}

fn allowed_method(text: &str) -> Result<Method, Diagnostic> {
    if text == "*" {
        let diagnostic = Diagnostic::new(
            "\"*\" is not a method",
            "remove allow_methods to allow the methods of the route",
        );
        return Err(diagnostic);
    }
    method(text)
}

fn allowed_header(text: &str) -> Result<HeaderName, Diagnostic> {
    if text == "*" {
        let diagnostic = Diagnostic::new(
            "\"*\" is not a valid field name",
            "remove allow_headers to allow the requested fields",
        );
        return Err(diagnostic);
    }
    header_name(text)
}

fn exposed_header(text: &str, credentials: bool) -> Result<HeaderName, Diagnostic> {
    if text == "*" && credentials {
        let diagnostic = Diagnostic::new(
            "with allow_credentials, browsers treat \"*\" as a field name",
            "list the fields",
        );
        return Err(diagnostic);
    }
    header_name(text)
}

fn max_age(validator: &mut Validator<'_>, at: &KeyPath<'_>, text: Option<&DurationText>) -> Option<Duration> {
    let age = validator.duration_or_zero(at, text)?;
    if age.subsec_nanos() != 0 || age > Duration::from_secs(86_400) {
        let original = text.map_or("", |text| text.0.as_str());
        let message = format!("{} cannot be sent as Access-Control-Max-Age", quoted(original));
        validator.report(at, Diagnostic::new(message, "use whole seconds, at most 1d"));
        return None;
    }
    Some(age)
}
