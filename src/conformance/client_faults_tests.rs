//! Checks the table of client faults: unique names, one expectation per response, no placeholder left.

use std::collections::BTreeSet;

use super::*;

#[test]
fn rows_have_unique_names_and_one_expectation_per_response() {
    let (plain, encrypted) =
        (client_faults(&GatewayProfile::example()), client_faults_tls(&GatewayProfile::example()));
    assert!(plain.len() >= 110 && encrypted.len() >= 40, "{} {}", plain.len(), encrypted.len());
    let rows = [plain, encrypted].concat();
    let names: BTreeSet<_> = rows.iter().map(|row| row.name).collect();
    assert_eq!(names.len(), rows.len());
    for row in &rows {
        let kebab = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
        assert!(row.name.bytes().all(kebab), "{}", row.name);
        let read = row
            .steps
            .iter()
            .filter(|step| matches!(step, ClientStep::ReadResponse(_) | ClientStep::ReadResponseSlowly(..)));
        assert_eq!(read.count(), row.expected_responses.len(), "{}", row.name);
        // Rows that break TLS may do so after a response.
        let breaks_tls = row.steps.iter().any(|step| matches!(step, ClientStep::SendBelowTls(_)));
        let without_response = matches!(
            row.connection_outcome,
            ConnectionOutcome::ClosedWithoutResponse(_) | ConnectionOutcome::ClientClosed(_)
        );
        assert!(
            if breaks_tls { without_response } else { without_response == row.expected_responses.is_empty() },
            "{}",
            row.name
        );
    }
}

#[test]
fn table_has_at_least_60_request_smuggling_rows() {
    let rows = client_faults(&GatewayProfile::example());
    let is_smuggling = |row: &&ClientFault| {
        row.steps.iter().any(
            |step| matches!(step, ClientStep::Send(bytes) if bytes.windows(9).any(|window| window == b"/smuggled")),
        )
    };
    assert!(rows.iter().filter(is_smuggling).count() >= 60);
}

#[test]
fn placeholders_are_all_substituted() {
    for row in client_faults(&GatewayProfile::example()) {
        for step in &row.steps {
            let (ClientStep::Send(bytes)
            | ClientStep::SendRepeated(bytes, _)
            | ClientStep::SendSlowly(bytes, _)) = step
            else {
                continue;
            };
            let text = String::from_utf8_lossy(bytes);
            for placeholder in ["<get>", "<post>", "<head>", "<GET>", "<POST>", "<path>", "<row>", "<host>"] {
                assert!(!text.contains(placeholder), "{}: {text}", row.name);
            }
        }
    }
}

#[test]
fn gateway_profile_is_substituted_in_every_request() {
    let profile = GatewayProfile {
        read_method: "PUT".to_owned(),
        path: "/v1/x".to_owned(),
        ..GatewayProfile::example()
    };
    assert_eq!(
        profile.follow_up_request(),
        "PUT /v1/x?row=follow-up HTTP/1.1\r\nhost: verify.example\r\n\r\n"
    );
    let rows = client_faults(&profile);
    let row = rows.iter().find(|row| row.name == "encoded-slash").unwrap();
    assert_eq!(row.routed_request.as_ref().map(|request| request.path.as_str()), Some("/v1/x/a%2Fb"));
}
