//! The table holds together: names, fates, and no request that goes by another row's name.

use std::collections::BTreeSet;

use super::*;

#[test]
fn every_row_has_its_own_name_and_says_what_is_counted() {
    let rows = client_faults_h2(&Setting::any());
    let names: BTreeSet<_> = rows.iter().map(|row| row.name).collect();
    assert_eq!(names.len(), rows.len());
    assert!(rows.len() >= 110, "{}", rows.len());
    for row in &rows {
        let kebab = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        assert!(row.name.starts_with("h2-") && row.name.bytes().all(kebab), "{}", row.name);
        let resets = row.fates.iter().filter(|(_, fate)| *fate == Fate::Reset).count();
        let counted = row.silences.iter().filter(|silence| **silence == STREAM_ERROR).count();
        assert_eq!(resets, counted, "{}", row.name);
        assert!(row.ending != LastWord::Error || row.silences.contains(&CONNECTION_ERROR), "{}", row.name);
        assert!(!row.neighbour || row.ending == LastWord::Stays, "{}", row.name);
    }
}

#[test]
fn requests_go_by_the_name_of_their_row() {
    for row in client_faults_h2(&Setting::any()) {
        let bytes: Vec<u8> = row
            .deeds
            .iter()
            .flat_map(|deed| match deed {
                Deed::Send(bytes) | Deed::Repeat(bytes, _) | Deed::Drip(bytes, _) => bytes.to_vec(),
                Deed::Arrived | Deed::Answered(_) | Deed::Mute | Deed::Close => Vec::new(),
            })
            .collect();
        let text = String::from_utf8_lossy(&bytes);
        for mark in text.split("row=").skip(1) {
            assert!(mark.starts_with(row.name), "{}: {mark:.40}", row.name);
        }
    }
}
