//! Checks the `cors` sections: each origin once, and no `*` together with credentials.

use std::sync::Arc;
use std::time::Duration;

use http::Method;

use super::file::cors::{CorsFile, CorsForm, CorsWord};
use super::file::forms::Text;
use super::problem::Diagnostic;
use super::tree::KeyPath;
use super::validator::Validator;
use crate::http::cors::{AllowedOrigins, CorsPolicy, CorsRules};
use crate::http::origin::OriginPattern;

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
    let fields = at.key("expose_headers");
    for (index, _) in file.expose_headers.iter().enumerate().filter(|(_, name)| name.0 == "*") {
        if file.allow_credentials {
            let message = "with allow_credentials, browsers treat \"*\" as a field name";
            validator.report(&fields.item(index), Diagnostic::new(message, "list the fields"));
        }
    }
    CorsRules {
        origins: origins(validator, &at.key("allow_origins"), file),
        credentials: file.allow_credentials,
        methods: file.allow_methods.as_deref().map(Text::values).unwrap_or_default(),
        headers: file.allow_headers.as_deref().map(Text::values),
        expose: Text::values(&file.expose_headers),
        max_age: file.max_age.map(|age| Duration::from_secs(*age)),
    }
}

fn origins(validator: &mut Validator<'_>, at: &KeyPath<'_>, file: &CorsFile) -> AllowedOrigins {
    let mut patterns: Vec<OriginPattern> = Vec::new();
    let mut any = false;
    for (index, origin) in file.allow_origins.iter().enumerate() {
        let item = at.item(index);
        match &origin.0 {
            Some(pattern) if patterns.contains(pattern) => validator.report_duplicate(&item),
            Some(pattern) => patterns.push(pattern.clone()),
            None if file.allow_credentials => {
                any = true;
                let message =
                    "with allow_credentials, any website could send requests on behalf of your users";
                let help = "list the origins, or remove allow_credentials";
                validator.report(&item, Diagnostic::new(message, help));
            }
            None => {
                any = true;
                if file.allow_origins.len() > 1 {
                    let help = "remove the other origins, or remove \"*\"";
                    validator.report(&item, Diagnostic::new("\"*\" already allows every origin", help));
                }
            }
        }
    }
    if any { AllowedOrigins::Any } else { AllowedOrigins::Listed(patterns) }
}
