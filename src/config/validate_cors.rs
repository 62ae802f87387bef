//! Checks the `cors` sections: each origin once, and no `*` together with credentials.

use std::sync::Arc;
use std::time::Duration;

use http::Method;

use super::file::cors::{CorsFile, CorsForm, CorsWord};
use super::file::forms::Text;
use super::validator::Place;
use crate::http::cors::{AllowedOrigins, CorsPolicy, CorsRules};

/// The policy of a route that matches `methods`; `top_level` are the top-level rules.
pub(crate) fn route(
    at: &Place<'_>,
    form: Option<&CorsForm>,
    top_level: Option<&CorsRules>,
    methods: &[Method],
) -> Option<Arc<CorsPolicy>> {
    let mut rules = match form? {
        CorsForm::Long(file) => rules(at, file),
        CorsForm::Short(CorsWord::Default) => {
            if top_level.is_none() && !at.validator.root().key("cors").is_written() {
                at.report(
                    "\"default\" needs a top-level cors section",
                    "add one, or define the policy here: cors: { allow_origins: [\"https://app.example.com\"] }",
                );
            }
            top_level?.clone()
        }
    };
    if rules.methods.is_empty() {
        rules.methods = methods.to_vec();
    }
    Some(Arc::new(CorsPolicy::new(rules)))
}

/// The rules of a section.
pub(crate) fn rules(at: &Place<'_>, file: &CorsFile) -> CorsRules {
    for (field, _) in at.key("expose_headers").items(&file.expose_headers).filter(|(_, name)| name.0 == "*") {
        if file.allow_credentials {
            field.report("with allow_credentials, browsers treat \"*\" as a field name", "list the fields");
        }
    }
    CorsRules {
        origins: origins(&at.key("allow_origins"), file),
        credentials: file.allow_credentials,
        methods: file.allow_methods.as_deref().map(Text::values).unwrap_or_default(),
        headers: file.allow_headers.as_deref().map(Text::values),
        expose: Text::values(&file.expose_headers),
        max_age: file.max_age.map(|age| Duration::from_secs(*age)),
    }
}

fn origins(at: &Place<'_>, file: &CorsFile) -> AllowedOrigins {
    let all = file.allow_origins.iter().position(|origin| origin.is_none());
    let patterns = at.distinct(Text::values(&file.allow_origins));
    let Some(index) = all else { return AllowedOrigins::Listed(patterns.into_iter().flatten().collect()) };
    let item = at.item(index);
    if file.allow_credentials {
        let message = "with allow_credentials, any website could send requests on behalf of your users";
        item.report(message, "list the origins, or remove allow_credentials");
    } else if file.allow_origins.len() > 1 {
        item.report("\"*\" already allows every origin", "remove the other origins, or remove \"*\"");
    }
    AllowedOrigins::Any
}
