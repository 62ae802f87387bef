//! The table holds together: names, answers for whoever reads, and nothing of the setting left unsaid.

use std::collections::BTreeSet;

use super::*;

#[test]
fn every_row_has_its_own_name_and_an_answer_for_each_that_it_reads() {
    let (plain, encrypted) = (client_faults(&Setting::any()), client_faults_tls(&Setting::any()));
    assert!(plain.len() >= 110 && encrypted.len() >= 40, "{} {}", plain.len(), encrypted.len());
    let rows = [plain, encrypted].concat();
    let names: BTreeSet<_> = rows.iter().map(|row| row.name).collect();
    assert_eq!(names.len(), rows.len());
    for row in &rows {
        let kebab = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
        assert!(row.name.bytes().all(kebab), "{}", row.name);
        let read = row.acts.iter().filter(|act| matches!(act, Act::Answer(_) | Act::AnswerSlowly(..)));
        assert_eq!(read.count(), row.answers.len(), "{}", row.name);
        // What breaks TLS comes behind an answer.
        let breaks = row.acts.iter().any(|act| matches!(act, Act::Beneath(_)));
        let silent = matches!(row.ending, Ending::Silence(_) | Ending::Left(_));
        assert!(if breaks { silent } else { silent == row.answers.is_empty() }, "{}", row.name);
    }
}

#[test]
fn at_least_sixty_rows_are_attempts_to_smuggle() {
    let rows = client_faults(&Setting::any());
    let smuggles = |row: &&ClientFault| {
        row.acts.iter().any(
            |act| matches!(act, Act::Send(bytes) if bytes.windows(9).any(|window| window == b"/smuggled")),
        )
    };
    assert!(rows.iter().filter(smuggles).count() >= 60);
}

#[test]
fn no_word_of_the_setting_is_left_unsaid() {
    for row in client_faults(&Setting::any()) {
        for act in &row.acts {
            let (Act::Send(bytes) | Act::Repeat(bytes, _) | Act::Drip(bytes, _)) = act else { continue };
            let text = String::from_utf8_lossy(bytes);
            for word in ["<get>", "<post>", "<head>", "<GET>", "<POST>", "<path>", "<row>", "<host>"] {
                assert!(!text.contains(word), "{}: {text}", row.name);
            }
        }
    }
}

#[test]
fn the_setting_is_spelled_in_every_request() {
    let other = Setting { read: "PUT".to_owned(), path: "/v1/x".to_owned(), ..Setting::any() };
    assert_eq!(other.follow_up(), "PUT /v1/x?row=follow-up HTTP/1.1\r\nhost: rehearsal.example\r\n\r\n");
    let rows = client_faults(&other);
    let row = rows.iter().find(|row| row.name == "encoded-slash").unwrap();
    assert_eq!(row.asks.as_ref().map(|asks| asks.path.as_str()), Some("/v1/x/a%2Fb"));
}
