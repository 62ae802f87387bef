//! The one mechanism for methods that HTTP/1 and HTTP/2 share by name: a match with the same call in both arms.

/// Evaluates `$call` with `$side` bound to the value of the variant `H1` or `H2` of `$kind`.
macro_rules! by_protocol {
    ($kind:ident, $value:expr, $side:ident => $call:expr) => {
        match $value {
            $kind::H1($side) => $call,
            $kind::H2($side) => $call,
        }
    };
}

pub(super) use by_protocol;
