//! Every fault of an HTTP/2 client, against the route that the faults of HTTP/1 clients are played on.
//!
//! What the HTTP/2 library does by itself has no answer to be judged: such a row is kept when the stream or the connection
//! ends as it should, and nothing else on it is harmed.

use futures_util::future::join_all;
use tokio::sync::Semaphore;

use super::clients::{AGAIN_AT_ONCE, AT_ONCE, LIMIT, expectation_of, judge, method, obstacle_to, shortened};
use super::ledger::Ledger;
use super::load_factor::LoadFactor;
use super::stage::Stage;
use super::visits::Visit;
use super::wanted::told;
use super::{Row, Side, again};
use crate::contract::Cause;
use crate::rehearse::answers::Answer;
use crate::rehearse::clients::{Expected, Setting, Target};
use crate::rehearse::clients_h2::{Deed, Fate, FrameFault, LastWord, client_faults_h2};
use crate::rehearse::{Played, Scene, talk_h2};

/// Plays all of it.
pub(super) async fn play_all(stage: &Stage, place: Option<(Visit, Setting)>) -> Vec<Row> {
    let skip = |row: &FrameFault, why: &str| {
        Row::skipped(Side::Client, (row.name, row.meaning), None, why.to_owned())
    };
    let skip_all = |why: &str| client_faults_h2(&Setting::any()).iter().map(|row| skip(row, why)).collect();
    let Some((visit, setting)) = place else { return skip_all("no route can be reached") };
    let (exact, floods) = (stage.way_h2(&stage.clients_h2), stage.way_h2(&stage.floods));
    let (Some(exact), Some(floods)) = (exact, floods) else { return skip_all("no listener speaks HTTP/2") };
    let rows = unhurried(client_faults_h2(&setting), stage.load);
    let get = method(&setting.read);
    let judge = |expected, asked, answer: &Answer| judge(stage, &visit, &get, expected, asked, answer);
    let limit = stage.load.scale(LIMIT);
    let scene =
        |connect| Scene { connect, setting: &setting, upstream: &stage.serving, limit, judge: &judge };
    let (exact, floods) = (scene(exact), scene(floods));
    let places = Semaphore::new(AT_ONCE);
    let on_stage = |index: usize| {
        let (rows, exact, floods) = (&rows, &exact, &floods);
        let (places, visit, setting, get) = (&places, &visit, &setting, &get);
        async move {
            let Some(row) = rows.get(index) else {
                return Row::skipped(Side::Client, ("", ""), None, "there is no such row".to_owned());
            };
            let leads_elsewhere = row.dotted.and_then(|path| {
                let (method, path) = (setting.read.clone(), path.to_owned());
                obstacle_to(stage, visit, setting, &Target { method, path, no_host: false })
            });
            if let Some(why) = leads_elsewhere {
                return skip(row, &why);
            }
            let _place = places.acquire().await;
            let (scene, gateway) =
                if row.loose { (floods, &stage.floods) } else { (exact, &stage.clients_h2) };
            let played = talk_h2::play(row, scene).await;
            note(&gateway.ledger, row, &played);
            let expected: Vec<String> = row
                .fates
                .iter()
                .filter_map(|(_, fate)| match fate {
                    Fate::Answer(expected) => Some(expectation_of(stage, visit, get, *expected)),
                    Fate::HeadOnly(cause) => Some(
                        expectation_of(stage, visit, get, Expected::Refused(*cause)) + ", its head alone",
                    ),
                    Fate::Reset => Some("a reset".to_owned()),
                    Fate::Empty431 => Some("an empty 431".to_owned()),
                    Fate::Silence => None,
                })
                .chain(ending(row))
                .collect();
            let answered = row
                .fates
                .iter()
                .filter(|(_, fate)| matches!(fate, Fate::Answer(_) | Fate::HeadOnly(_)))
                .count();
            let answers: Vec<String> = played.answers.iter().take(answered).map(told).collect();
            Row::of_client((row.name, row.meaning), shortened(&expected), &answers, played.breach)
        }
    };
    let mut played = join_all((0..rows.len()).map(on_stage)).await;
    again::failed_ones(&mut played, AGAIN_AT_ONCE, on_stage).await;
    played
}

/// What drips until a timeout drips no oftener where the timeout is longer: the library counts empty frames.
fn unhurried(mut rows: Vec<FrameFault>, load: LoadFactor) -> Vec<FrameFault> {
    for deed in rows.iter_mut().flat_map(|row| &mut row.deeds) {
        if let Deed::Drip(_, every) = deed {
            *every = load.scale(*every);
        }
    }
    rows
}

/// Writes down what a row got. Where it came out otherwise, not everything of it is known.
fn note(ledger: &Ledger, row: &FrameFault, played: &Played) {
    if played.breach.is_some() {
        return ledger.lost(row.fates.len() + row.silences.len() + 3);
    }
    if row.loose {
        ledger.more();
    }
    for answer in played.answers.iter().filter(|answer| answer.status < 400) {
        ledger.answer(answer.status, None);
    }
    // Errors are those of the row: what goes on beside it is served.
    let mut causes = row.fates.iter().filter_map(|(_, fate)| match fate {
        Fate::Answer(expected) => expected.cause(),
        Fate::HeadOnly(cause) => Some(*cause),
        Fate::Reset | Fate::Empty431 | Fate::Silence => None,
    });
    for answer in played.answers.iter().filter(|answer| answer.status >= 400) {
        ledger.answer(answer.status, causes.next().map(Cause::name));
    }
    for (_, fate) in &row.fates {
        match fate {
            Fate::Answer(Expected::Cut(cause)) => ledger.cut(cause.name()),
            Fate::HeadOnly(_) => ledger.cut(Cause::ClientTooSlow.name()),
            Fate::Answer(_) | Fate::Reset | Fate::Empty431 | Fate::Silence => {}
        }
    }
    for silence in &row.silences {
        ledger.silent(silence);
    }
}

/// What becomes of the connection, in a few words.
fn ending(row: &FrameFault) -> Option<String> {
    match row.ending {
        LastWord::Stays => None,
        LastWord::Error => Some("GOAWAY".to_owned()),
        LastWord::Farewell => Some("GOAWAY without an error".to_owned()),
        LastWord::Left => Some("the client leaves".to_owned()),
    }
}
