//! The sections `contracts` and `contract` of the file. The comments on the fields are the documentation.
//!
//! [`super::super::validate_contracts`] checks them; [`crate::contract`] applies them.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny};

use super::forms::{Either, Named};
use super::syntaxes::FieldPattern;
use crate::contract::ValueType;

/// The name of a contract, or a contract.
pub(crate) type ContractForm = Either<String, ContractFile>;

/// A contract.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ContractFile {
    /// The form of an error body.
    ///
    /// A preset (`flat`, `error_object`, `errors_list`, `problem`), or an object with placeholders in quotes, for
    /// example `{ error: { code: "{type}", message: "{message}" } }`. docs/contracts.md explains them.
    #[schemars(extend("x-default" = "`flat`", "x-unit" = "name or template"))]
    pub body: Option<AnyJson>,

    /// The media type of an error body.
    #[schemars(extend("x-default" = "that of the preset, else `application/json`"))]
    pub media_type: Option<String>,

    /// The complete list of codes that clients may receive.
    ///
    /// Each cause, and each upstream status that is not listed here, has a list of preferred codes; the first of them
    /// that is listed here is sent. 400 and 500 are sufficient for all of them; `check` reports if one is missing that
    /// is needed.
    #[schemars(required, extend("x-missing" = "list the codes that clients may receive", "x-empty" = "no codes are declared; list the codes that clients may receive"))]
    pub codes: Option<Vec<CodeFile>>,

    /// What single causes send, by the name of the cause.
    pub causes: Option<Named<CauseFile>>,

    /// The codes that replace single statuses of the upstream that are not documented, for example `{ 422: 400 }`.
    #[schemars(extend("x-default" = "the first documented code of the status's preference list", "x-unit" = "mapping of status to code"))]
    pub statuses: Option<Named<u16>>,

    /// The only values of `{type}` that clients may receive. Every code then declares one of them.
    #[schemars(extend(
        "x-default" = "any word of letters, digits, `_`, `.` and `-`",
        "x-unit" = "list of words, integers or URIs"
    ))]
    pub types: Option<Vec<String>>,

    /// The placeholders that this contract declares, with their JSON type.
    ///
    /// A value is taken from its place in the upstream's body, if both statuses are 4xx, else from the cause or code.
    #[schemars(extend("x-default" = "none"))]
    pub values: Option<Named<ValueType>>,

    /// Additional header fields of the upstream response that a replaced 4xx keeps.
    #[schemars(extend("default" = [], "x-unit" = "list of field names; `x-shop-*` is every name that begins so"))]
    pub keep_headers: Vec<FieldPattern>,
}

/// One documented code.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-short" = "code"))]
pub(crate) struct CodeFile {
    /// The HTTP status code.
    ///
    /// 400 to 599, except 408, after which clients repeat the request.
    #[schemars(range(min = 400, max = 599), extend("x-missing" = "write the status code, for example code: 404", "x-unit" = "number"))]
    pub code: u16,

    /// The reason phrase in the status line, which is also the `{title}`.
    #[schemars(extend("x-default" = "the registered phrase of the code"))]
    pub text: Option<String>,

    /// The message for errors with this code, unless the cause or the upstream provides one.
    #[schemars(extend("x-default" = "the text", "x-unit" = "1 to 1000 characters of plain text"))]
    pub message: Option<String>,

    /// The machine-readable `{type}` of errors with this code, unless the cause or the upstream provides one.
    #[schemars(extend("x-default" = "the text in snake case: `not_found`"))]
    #[serde(rename = "type")]
    pub kind: Option<String>,

    /// The declared values of errors with this code, by name.
    #[schemars(extend("x-default" = "none", "x-unit" = "mapping of names to values"))]
    pub values: Option<Named<AnyJson>>,
}

/// What one cause sends. It applies if the error is sent with the code of its cause: without overrides.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CauseFile {
    /// The code to send; it must be one of `codes`.
    #[schemars(range(min = 400, max = 599), extend("x-default" = "the first documented code of the cause's preference list"))]
    pub code: Option<u16>,

    /// The message that the client receives.
    #[schemars(extend("x-default" = "the message of the code", "x-unit" = "1 to 1000 characters of plain text"))]
    pub message: Option<String>,

    /// The machine-readable type.
    #[schemars(extend("x-default" = "the type of the code"))]
    #[serde(rename = "type")]
    pub kind: Option<String>,

    /// The declared values, by name.
    #[schemars(extend("x-default" = "those of the code", "x-unit" = "mapping of names to values"))]
    pub values: Option<Named<AnyJson>>,
}

/// Any JSON value; [`super::super::validate_contracts`] reads it from the tree, which knows what is quoted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AnyJson;

impl<'de> Deserialize<'de> for AnyJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| AnyJson)
    }
}

impl JsonSchema for AnyJson {
    fn schema_name() -> Cow<'static, str> {
        "AnyJson".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({})
    }
}
