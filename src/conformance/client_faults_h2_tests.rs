//! Checks the table of HTTP/2 client faults: unique names, close reasons, and request targets that carry the row's
//! name.

use std::collections::BTreeSet;

use super::*;

#[test]
fn rows_have_unique_names_and_expected_close_reasons() {
    let rows = client_faults_h2(&GatewayProfile::example());
    let names: BTreeSet<_> = rows.iter().map(|row| row.name).collect();
    assert_eq!(names.len(), rows.len());
    assert!(rows.len() >= 110, "{}", rows.len());
    for row in &rows {
        let kebab = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        assert!(row.name.starts_with("h2-") && row.name.bytes().all(kebab), "{}", row.name);
        let resets =
            row.stream_outcomes.iter().filter(|(_, outcome)| *outcome == StreamOutcome::Reset).count();
        let counted = row.close_reasons.iter().filter(|reason| **reason == STREAM_ERROR).count();
        assert_eq!(resets, counted, "{}", row.name);
        assert!(
            row.close_outcome != CloseOutcome::ErrorGoaway || row.close_reasons.contains(&CONNECTION_ERROR),
            "{}",
            row.name
        );
        assert!(!row.background_stream || row.close_outcome == CloseOutcome::KeptOpen, "{}", row.name);
    }
}

#[test]
fn request_targets_carry_the_name_of_their_row() {
    for row in client_faults_h2(&GatewayProfile::example()) {
        let bytes: Vec<u8> = row
            .steps
            .iter()
            .flat_map(|step| match step {
                FrameStep::Send(bytes)
                | FrameStep::SendRepeated(bytes, _)
                | FrameStep::SendSlowly(bytes, _) => bytes.to_vec(),
                FrameStep::WaitForUpstreamRequest
                | FrameStep::WaitForStreamEnd(_)
                | FrameStep::SuppressAcks
                | FrameStep::Close => Vec::new(),
            })
            .collect();
        let text = String::from_utf8_lossy(&bytes);
        for marker in text.split("row=").skip(1) {
            assert!(marker.starts_with(row.name), "{}: {marker:.40}", row.name);
        }
    }
}
