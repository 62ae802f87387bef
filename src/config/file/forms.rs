//! The shapes of values in the file: durations and sizes as text, named sections in order, one value or a list.
//!
//! [`super::super::units`] parses the text and reports invalid values.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::ops::Deref;
use std::time::{Duration, SystemTime};

use http::{HeaderName, HeaderValue};
use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor, value};

use super::super::problem::{Diagnostic, quoted};
use super::super::units;
use super::super::units::{ServerAddress, header_name};
use crate::contract::{JsonPath, header_filter};
use crate::http::authority::{self, UpstreamHost};
use crate::http::hop_by_hop;

/// The syntax of a value that is written as text.
pub(crate) trait Syntax {
    /// The parsed value.
    type Value: Clone + fmt::Debug;
    /// The name in the schema.
    const NAME: &'static str;
    /// The unit in the reference page.
    const UNIT: &'static str;
    /// A regular expression that valid text matches completely.
    const PATTERN: &'static str;
    /// A valid value.
    const EXAMPLE: &'static str;

    /// Parses the text.
    ///
    /// # Errors
    /// What is wrong with the text, and what would be right.
    fn parse(text: &str) -> Result<Self::Value, Diagnostic>;

    /// The schema of the text.
    fn schema() -> Schema {
        json_schema!({
            "type": "string",
            "pattern": format!("^({})$", Self::PATTERN),
            "examples": [Self::EXAMPLE],
            "x-unit": Self::UNIT,
        })
    }
}

/// A value that is written as text and parsed when the file is read.
pub(crate) struct Text<S: Syntax>(pub S::Value);

/// A duration greater than zero: `800ms`, `5s`, `1m30s`, `1h`.
pub(crate) type Time = Text<PositiveDuration>;
/// A duration that may be zero.
pub(crate) type TimeOrZero = Text<AnyDuration>;
/// A duration greater than zero, or `off`.
pub(crate) type TimeOrOff = Text<OrOff<PositiveDuration>>;
/// A size in bytes: `512B`, `32KiB`, `10MiB`.
pub(crate) type Size = Text<SizeSyntax>;
/// A size in bytes, or `0`.
pub(crate) type SizeOrZero = Text<AnySize>;
/// A size in bytes, or `off`.
pub(crate) type SizeOrOff = Text<OrOff<SizeSyntax>>;
/// A network such as `10.0.0.0/8`, or an address.
pub(crate) type Network = Text<NetworkSyntax>;
/// A field name, in lower case.
pub(crate) type FieldName = Text<FieldNameSyntax>;
/// The host that an upstream receives.
pub(crate) type HostChoice = Text<HostChoiceSyntax>;
/// A field of an upstream response that a replaced error may keep.
pub(crate) type KeptField = Text<KeptFieldSyntax>;
/// A place in a JSON body.
pub(crate) type MessagePath = Text<MessagePathSyntax>;
/// A `Retry-After` in whole seconds.
pub(crate) type RetryAfter = Text<RetryAfterSyntax>;
/// The address of a listener.
pub(crate) type ListenAddress = Text<ListenSyntax>;
/// The address of a server of an upstream.
pub(crate) type Server = Text<ServerSyntax>;
/// A share: `20%`, from 0 to 1.
pub(crate) type Percent = Text<PercentSyntax>;

impl<S: Syntax> Deref for Text<S> {
    type Target = S::Value;

    fn deref(&self) -> &S::Value {
        &self.0
    }
}

impl<S: Syntax> Clone for Text<S> {
    fn clone(&self) -> Self {
        Text(self.0.clone())
    }
}

impl<S: Syntax> Copy for Text<S> where S::Value: Copy {}

impl<S: Syntax> fmt::Debug for Text<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<S: Syntax> PartialEq for Text<S>
where
    S::Value: PartialEq,
{
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<'de, S: Syntax> Deserialize<'de> for Text<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        S::parse(&text).map(Text).map_err(serde::de::Error::custom)
    }
}

impl<S: Syntax> JsonSchema for Text<S> {
    fn schema_name() -> Cow<'static, str> {
        S::NAME.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        S::schema()
    }
}

/// The syntax of [`Time`].
#[derive(Debug)]
pub(crate) struct PositiveDuration;

impl Syntax for PositiveDuration {
    type Value = Duration;
    const NAME: &'static str = "Duration";
    const UNIT: &'static str = "duration";
    const PATTERN: &'static str = AnyDuration::PATTERN;
    const EXAMPLE: &'static str = "5s";

    fn parse(text: &str) -> Result<Duration, Diagnostic> {
        let zero = || Diagnostic::new("the duration must be greater than 0", "use a duration such as 1s");
        match AnyDuration::parse(text) {
            Ok(Duration::ZERO) => Err(zero()),
            Err(_) if !text.is_empty() && text.bytes().all(|digit| digit == b'0') => Err(zero()),
            parsed => parsed,
        }
    }
}

/// The syntax of [`TimeOrZero`].
#[derive(Debug)]
pub(crate) struct AnyDuration;

impl Syntax for AnyDuration {
    type Value = Duration;
    const NAME: &'static str = "DurationOrZero";
    const UNIT: &'static str = "duration";
    const PATTERN: &'static str = "([0-9]+(ms|s|m|h|d))+";
    const EXAMPLE: &'static str = "5s";

    fn parse(text: &str) -> Result<Duration, Diagnostic> {
        match text {
            "off" => Err(Diagnostic::new("\"off\" is not allowed here", "use a duration such as 1s")),
            text => units::duration(text),
        }
    }
}

/// The syntax of [`Size`].
#[derive(Debug)]
pub(crate) struct SizeSyntax;

impl Syntax for SizeSyntax {
    type Value = u64;
    const NAME: &'static str = "Size";
    const UNIT: &'static str = "size";
    const PATTERN: &'static str = "[0-9]+(B|KiB|MiB|GiB|KB|MB|GB)";
    const EXAMPLE: &'static str = "10MiB";

    fn parse(text: &str) -> Result<u64, Diagnostic> {
        units::size(text)
    }
}

/// The syntax of [`SizeOrZero`].
#[derive(Debug)]
pub(crate) struct AnySize;

impl Syntax for AnySize {
    type Value = u64;
    const NAME: &'static str = "SizeOrZero";
    const UNIT: &'static str = "size, or `0`";
    const PATTERN: &'static str = "0|[0-9]+(B|KiB|MiB|GiB|KB|MB|GB)";
    const EXAMPLE: &'static str = "256B";

    fn parse(text: &str) -> Result<u64, Diagnostic> {
        match text {
            "0" => Ok(0),
            "off" | "false" => Err(Diagnostic::new(format!("{} is not a size", quoted(text)), "write 0")),
            text => units::size(text),
        }
    }

    fn schema() -> Schema {
        let text = json_schema!({ "type": "string", "pattern": format!("^({})$", Self::PATTERN) });
        json_schema!({ "anyOf": [text, { "const": 0 }], "examples": [Self::EXAMPLE], "x-unit": Self::UNIT })
    }
}

/// A syntax, or `off`.
#[derive(Debug)]
pub(crate) struct OrOff<S>(PhantomData<S>);

impl<S: SyntaxOrOff> Syntax for OrOff<S> {
    type Value = Option<S::Value>;
    const NAME: &'static str = S::NAME_OR_OFF;
    const UNIT: &'static str = S::UNIT_OR_OFF;
    const PATTERN: &'static str = S::PATTERN;
    const EXAMPLE: &'static str = S::EXAMPLE;

    fn parse(text: &str) -> Result<Option<S::Value>, Diagnostic> {
        match text {
            "off" => Ok(None),
            // `false`, `never`, `unlimited`.
            word if word.starts_with(char::is_alphabetic) => {
                let help = format!("write off, or a value such as {}", Self::EXAMPLE);
                Err(Diagnostic::new(format!("{} is not allowed here", quoted(word)), help))
            }
            text => S::parse(text).map(Some),
        }
    }

    /// YAML 1.1 parsers read `off` as `false`.
    fn schema() -> Schema {
        let text = json_schema!({ "type": "string", "pattern": format!("^(off|{})$", S::PATTERN) });
        json_schema!({ "anyOf": [text, { "const": false }], "examples": [Self::EXAMPLE], "x-unit": Self::UNIT })
    }
}

/// A syntax that [`OrOff`] extends.
pub(crate) trait SyntaxOrOff: Syntax {
    /// The name in the schema.
    const NAME_OR_OFF: &'static str;
    /// The unit in the reference page.
    const UNIT_OR_OFF: &'static str;
}

impl SyntaxOrOff for PositiveDuration {
    const NAME_OR_OFF: &'static str = "DurationOrOff";
    const UNIT_OR_OFF: &'static str = "duration, or `off`";
}

impl SyntaxOrOff for SizeSyntax {
    const NAME_OR_OFF: &'static str = "SizeOrOff";
    const UNIT_OR_OFF: &'static str = "size, or `off`";
}

/// The syntax of [`Network`].
#[derive(Debug)]
pub(crate) struct NetworkSyntax;

impl Syntax for NetworkSyntax {
    type Value = IpNet;
    const NAME: &'static str = "Network";
    const UNIT: &'static str = "network such as `10.0.0.0/8`, or address";
    const PATTERN: &'static str = "[0-9A-Fa-f:.]+(/[0-9]{1,3})?";
    const EXAMPLE: &'static str = "10.0.0.0/8";

    fn parse(text: &str) -> Result<IpNet, Diagnostic> {
        units::network(text)
    }
}

/// The syntax of [`HostChoice`].
#[derive(Debug)]
pub(crate) struct HostChoiceSyntax;

impl Syntax for HostChoiceSyntax {
    type Value = UpstreamHost;
    const NAME: &'static str = "HostChoice";
    const UNIT: &'static str = "`client`, `server` or `host[:port]`";
    const EXAMPLE: &'static str = "api.internal";
    const PATTERN: &'static str = "[^/@\\\\s]+";

    fn parse(text: &str) -> Result<UpstreamHost, Diagnostic> {
        match text {
            "client" => Ok(UpstreamHost::Client),
            "server" => Ok(UpstreamHost::Server),
            name => match authority::check_authority(name.as_bytes()) {
                Ok(()) => Ok(UpstreamHost::Name(name.to_owned())),
                Err(rejection) => Err(Diagnostic::new(
                    format!("{} is not a host: {}", quoted(name), rejection.evidence),
                    "write client, server, or a host, for example \"api.internal\"",
                )),
            },
        }
    }
}

/// The syntax of [`FieldName`].
#[derive(Debug)]
pub(crate) struct FieldNameSyntax;

impl Syntax for FieldNameSyntax {
    type Value = HeaderName;
    const NAME: &'static str = "FieldName";
    const UNIT: &'static str = "field name";
    const PATTERN: &'static str = "[!#$%&'*+.^_`|~0-9A-Za-z-]+";
    const EXAMPLE: &'static str = "x-forwarded-for";

    fn parse(text: &str) -> Result<HeaderName, Diagnostic> {
        header_name(text)
    }
}

/// The syntax of [`KeptField`].
#[derive(Debug)]
pub(crate) struct KeptFieldSyntax;

impl Syntax for KeptFieldSyntax {
    type Value = HeaderName;
    const NAME: &'static str = "KeptField";
    const UNIT: &'static str = FieldNameSyntax::UNIT;
    const PATTERN: &'static str = FieldNameSyntax::PATTERN;
    const EXAMPLE: &'static str = "x-trace";

    fn parse(text: &str) -> Result<HeaderName, Diagnostic> {
        let name = header_name(text)?;
        if hop_by_hop::is_hop_by_hop(&name) || !is_keepable(&name) {
            let message = format!(
                "{} cannot be kept: the field describes the body, the connection or the gateway's response",
                quoted(text)
            );
            return Err(Diagnostic::new(message, "remove it"));
        }
        Ok(name)
    }
}

/// Whether the contract can keep this field, in the case that keeps most fields.
fn is_keepable(name: &HeaderName) -> bool {
    let context = header_filter::HeaderFilterContext {
        status_sent: 416,
        gateway_cors: false,
        extra_kept: std::slice::from_ref(name),
        contract_kept: &[],
        now: SystemTime::UNIX_EPOCH,
    };
    header_filter::keep_on_replaced(name, &HeaderValue::from_static("1"), context)
}

/// The syntax of [`MessagePath`].
#[derive(Debug)]
pub(crate) struct MessagePathSyntax;

impl Syntax for MessagePathSyntax {
    type Value = JsonPath;
    const NAME: &'static str = "MessagePath";
    const UNIT: &'static str = "place in a JSON body";
    const EXAMPLE: &'static str = "fault.faultstring";
    const PATTERN: &'static str = r"[^.\[\]]+(\[[0-9]+\])*(\.[^.\[\]]+(\[[0-9]+\])*)*";

    fn parse(text: &str) -> Result<JsonPath, Diagnostic> {
        JsonPath::parse(text).ok_or_else(|| {
            let message = format!("{} is not a place in a JSON body", quoted(text));
            Diagnostic::new(
                message,
                "write names and indices, for example fault.faultstring or errors[0].text",
            )
        })
    }
}

/// The syntax of [`RetryAfter`].
#[derive(Debug)]
pub(crate) struct RetryAfterSyntax;

impl Syntax for RetryAfterSyntax {
    type Value = u64;
    const NAME: &'static str = "RetryAfter";
    const UNIT: &'static str = "duration in whole seconds, 1s to 1d";
    const PATTERN: &'static str = AnyDuration::PATTERN;
    const EXAMPLE: &'static str = "5s";

    fn parse(text: &str) -> Result<u64, Diagnostic> {
        let time = AnyDuration::parse(text)?;
        if time.subsec_nanos() > 0 || !(1..=86_400).contains(&time.as_secs()) {
            let message = format!("{} cannot be sent as Retry-After", quoted(text));
            return Err(Diagnostic::new(message, "use whole seconds from 1s to 1d"));
        }
        Ok(time.as_secs())
    }
}

/// The syntax of [`ListenAddress`].
#[derive(Debug)]
pub(crate) struct ListenSyntax;

impl Syntax for ListenSyntax {
    type Value = SocketAddr;
    const NAME: &'static str = "ListenAddress";
    const UNIT: &'static str = "`ADDRESS:PORT`";
    const PATTERN: &'static str = r"(\[[0-9A-Fa-f:.]+(%[0-9]+)?\]|[0-9]+(\.[0-9]+){3}|localhost)?:[0-9]{1,5}";
    const EXAMPLE: &'static str = "0.0.0.0:8080";

    fn parse(text: &str) -> Result<SocketAddr, Diagnostic> {
        units::listen_address(text)
    }
}

/// The syntax of [`Server`].
#[derive(Debug)]
pub(crate) struct ServerSyntax;

impl Syntax for ServerSyntax {
    type Value = ServerAddress;
    const NAME: &'static str = "ServerAddress";
    const UNIT: &'static str = "";
    const PATTERN: &'static str = r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}|https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?/?";
    const EXAMPLE: &'static str = "10.0.1.10:8000";

    fn parse(text: &str) -> Result<ServerAddress, Diagnostic> {
        units::server(text)
    }
}

/// The syntax of [`Percent`].
#[derive(Debug)]
pub(crate) struct PercentSyntax;

impl Syntax for PercentSyntax {
    type Value = f64;
    const NAME: &'static str = "Percent";
    const UNIT: &'static str = "percentage";
    const PATTERN: &'static str = "[0-9]{1,3}%";
    const EXAMPLE: &'static str = "20%";

    fn parse(text: &str) -> Result<f64, Diagnostic> {
        let digits = text.strip_suffix('%').filter(|digits| units::is_digits(digits));
        match digits.and_then(|digits| digits.parse::<u8>().ok()).filter(|percent| *percent <= 100) {
            Some(percent) => Ok(f64::from(percent) / 100.0),
            None if units::is_digits(text) && text.len() <= 2 => {
                Err(Diagnostic::new(format!("{} has no unit", quoted(text)), format!("write {text}%")))
            }
            None => Err(Diagnostic::new(
                format!("{} is not a percentage", quoted(text)),
                "write a whole number from 0% to 100%, for example 20%",
            )),
        }
    }
}

/// A duration with its unit: `800ms`, `5s`, `1m30s`, `1h`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct DurationText(pub String);

/// A size with its unit: `512B`, `32KiB`, `10MiB`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct SizeText(pub String);

/// Sections by name, in the order of the file.
#[derive(Clone, Debug)]
pub(crate) struct Named<T>(pub Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NamedVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for NamedVisitor<T> {
            type Value = Named<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping of names to sections")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Named<T>, A::Error> {
                let mut sections = Vec::new();
                while let Some(section) = map.next_entry()? {
                    sections.push(section);
                }
                Ok(Named(sections))
            }
        }
        deserializer.deserialize_map(NamedVisitor(PhantomData))
    }
}

/// One value, or a list of values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StringOrList(pub Vec<String>);

impl<'de> Deserialize<'de> for StringOrList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StringOrListVisitor;
        impl<'de> Visitor<'de> for StringOrListVisitor {
            type Value = StringOrList;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one value or a list of values")
            }

            fn visit_str<E>(self, text: &str) -> Result<StringOrList, E> {
                Ok(StringOrList(vec![text.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<StringOrList, A::Error> {
                let mut words = Vec::new();
                while let Some(word) = items.next_element()? {
                    words.push(word);
                }
                Ok(StringOrList(words))
            }
        }
        deserializer.deserialize_any(StringOrListVisitor)
    }
}

/// One mapping, or a list of them.
#[derive(Clone, Debug)]
pub(crate) enum OneOrMany<T> {
    /// The mapping itself.
    One(T),
    /// A list, in the order of the file.
    Many(Vec<T>),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrManyVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOrManyVisitor<T> {
            type Value = OneOrMany<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping, or a list of mappings")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(value::MapAccessDeserializer::new(map)).map(OneOrMany::One)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(value::SeqAccessDeserializer::new(items)).map(OneOrMany::Many)
            }
        }
        deserializer.deserialize_any(OneOrManyVisitor(PhantomData))
    }
}

/// A short form (a scalar), or the long form (a mapping).
#[derive(Clone, Debug)]
pub(crate) enum Either<S, L> {
    /// A scalar.
    Short(S),
    /// A mapping.
    Long(L),
}

impl<'de, S: Deserialize<'de>, L: Deserialize<'de>> Deserialize<'de> for Either<S, L> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EitherVisitor<S, L>(PhantomData<(S, L)>);
        impl<'de, S: Deserialize<'de>, L: Deserialize<'de>> Visitor<'de> for EitherVisitor<S, L> {
            type Value = Either<S, L>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a single value or a mapping")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                let word: value::StrDeserializer<'_, E> = text.into_deserializer();
                S::deserialize(word).map(Either::Short)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                L::deserialize(value::MapAccessDeserializer::new(map)).map(Either::Long)
            }
        }
        deserializer.deserialize_any(EitherVisitor(PhantomData))
    }
}
