//! Parses and validates the replies of the script. Values that the script cannot return are an error. Pure.

use std::time::Duration;

use redis::Value;

use crate::limit::quota::MAX_FILL_TIME;
use crate::limit::{BackendError, DebitReply, DebitRequest, QuotaDecision, QuotaState, Timestamp};

/// Parses the reply to a [`super::script::ScriptOperation::Debit`].
///
/// # Errors
/// [`BackendError::InvalidReply`].
pub fn parse(requests: &[DebitRequest<'_>], value: &Value) -> Result<DebitReply, BackendError> {
    let Value::Array(values) = value else { return Err(BackendError::InvalidReply) };
    let numbers: Vec<u64> =
        values.iter().map(as_u64).collect::<Option<_>>().ok_or(BackendError::InvalidReply)?;
    let Some((&[seconds, nanos], rest)) = numbers.split_first_chunk::<2>() else {
        return Err(BackendError::InvalidReply);
    };
    if rest.len() != 4 * requests.len() || nanos >= 1_000_000_000 || seconds > u64::from(u32::MAX) {
        return Err(BackendError::InvalidReply);
    }
    let decisions =
        requests.iter().zip(rest.chunks_exact(4)).map(|(request, numbers)| parse_decision(request, numbers));
    Ok(DebitReply {
        decisions: decisions.collect::<Option<_>>().ok_or(BackendError::InvalidReply)?,
        debited_at: Timestamp::after_epoch(Duration::from_secs(seconds) + Duration::from_nanos(nanos)),
    })
}

fn as_u64(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}

fn parse_decision(request: &DebitRequest<'_>, numbers: &[u64]) -> Option<QuotaDecision> {
    let &[allowed, remaining, reset, wait] = numbers else { return None };
    let limit = request.algorithm.capacity(&request.quota);
    let remaining = u32::try_from(remaining).ok().filter(|remaining| *remaining <= limit)?;
    let time = |nanos| Some(Duration::from_nanos(nanos)).filter(|time| *time <= 3 * MAX_FILL_TIME);
    let quota_state = QuotaState { limit, remaining, reset: time(reset)? };
    match allowed {
        1 if wait == 0 => Some(QuotaDecision::Allow(quota_state)),
        0 if wait > 0 => Some(QuotaDecision::Deny { quota_state, retry_after: time(wait)? }),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::limit::{Algorithm, Key, Quota};

    fn parse_numbers(numbers: &[i64]) -> Result<DebitReply, BackendError> {
        let quota = Quota::new(5, Duration::from_secs(60), 5).unwrap();
        let request =
            DebitRequest { rule: "r", key: Key::from_bits(1), quota, algorithm: Algorithm::Gcra, cost: 1 };
        parse(&[request], &Value::Array(numbers.iter().map(|number| Value::Int(*number)).collect()))
    }

    #[test]
    fn valid_script_reply_is_parsed() {
        let quota_state = QuotaState { limit: 5, remaining: 4, reset: Duration::from_secs(12) };
        let reply = parse_numbers(&[100, 5, 1, 4, 12_000_000_000, 0]).unwrap();
        assert_eq!(reply.decisions, [QuotaDecision::Allow(quota_state)]);
        assert_eq!(reply.debited_at.since_epoch(), Duration::new(100, 5));
        let reply = parse_numbers(&[100, 5, 0, 4, 12_000_000_000, 7]).unwrap();
        assert_eq!(
            reply.decisions,
            [QuotaDecision::Deny { quota_state, retry_after: Duration::from_nanos(7) }]
        );
    }

    #[test]
    fn invalid_script_reply_is_rejected() {
        for numbers in [
            &[][..],
            &[1],
            &[100, 5],
            &[100, 5, 1, 4, 12],
            &[100, 5, 1, 4, 12, 0, 0],
            &[100, 5, 1, 6, 12, 0],
            &[100, 5, 1, 4, 12, 1],
            &[100, 5, 0, 4, 12, 0],
            &[100, 5, 2, 4, 12, 0],
            &[100, 5, 1, -4, 12, 0],
            &[100, 5, 1, 4, i64::MAX, 0],
            &[100, 1_000_000_000, 1, 4, 12, 0],
            &[i64::MAX, 5, 1, 4, 12, 0],
        ] {
            assert_eq!(parse_numbers(numbers), Err(BackendError::InvalidReply), "{numbers:?}");
        }
        for value in [Value::Nil, Value::Okay, Value::Int(1), Value::Array(vec![Value::Nil; 6])] {
            assert_eq!(parse(&[], &value), Err(BackendError::InvalidReply), "{value:?}");
        }
    }
}
