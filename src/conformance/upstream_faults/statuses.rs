//! Every status from 400 to 599 with an HTML page, and the documented code that the client receives.
//!
//! The codes are literals from the specification, independent of the error policy that they test. Error bodies are in
//! [`super::error_bodies`].

use super::super::script::{UpstreamStep, http_response};
use super::{INTERNAL_HOSTNAME, UpstreamFault, replaced_row};

/// `CODE for STATUS ...;`
macro_rules! expected_codes {
    ($($code:literal for $($status:literal)+;)+) => {
        &[$($((
            concat!("status-", stringify!($status)),
            concat!("sends ", stringify!($status), " with an HTML page"),
            $status,
            $code,
        ),)+)+]
    };
}

/// Name, description, upstream status, expected code.
const STATUS_TABLE: &[(&str, &str, u16, u16)] = expected_codes! {
    400 for 400;
    401 for 401;
    403 for 402 403;
    404 for 404;
    400 for 405 406 407;
    504 for 408;
    409 for 409;
    404 for 410;
    400 for 411;
    409 for 412;
    400 for 413 414 415 416 417 418 419 420 421 422;
    409 for 423;
    504 for 424;
    400 for 425 426 427 428;
    429 for 429;
    400 for 430 431 432 433 434 435 436 437 438 439 440 441 442 443 444 445 446 447 448 449 450;
    403 for 451;
    400 for 452 453 454 455 456 457 458 459 460 461 462 463 464 465 466 467 468 469 470 471 472 473 474 475;
    400 for 476 477 478 479 480 481 482 483 484 485 486 487 488 489 490 491 492 493 494 495 496 497 498;
    504 for 499;
    500 for 500 501;
    504 for 502;
    503 for 503;
    504 for 504;
    500 for 505 506;
    503 for 507;
    500 for 508;
    503 for 509;
    500 for 510 511 512 513 514 515 516 517 518 519;
    504 for 520 521 522 523 524 525 526 527;
    500 for 528;
    503 for 529;
    504 for 530;
    500 for 531 532 533 534 535 536 537 538 539 540 541 542 543 544 545 546 547 548 549 550 551 552 553 554 555;
    500 for 556 557 558 559 560 561 562 563 564 565 566 567 568 569 570 571 572 573 574 575 576 577 578 579 580;
    500 for 581 582 583 584 585 586 587 588 589 590 591 592 593 594 595 596 597;
    504 for 598 599;
};

/// Well-known rows with memorable names first, then every status.
pub(super) fn rows() -> Vec<UpstreamFault> {
    let of = |name, description, status, code| {
        replaced_row(name, description, status, code, vec![UpstreamStep::Write(html_page(status))])
    };
    let first = [
        of("html-502", "sends an HTML error page with 502", 502, 504),
        of("teapot", "sends 418, which is not a documented code", 418, 400),
        of("request-timeout", "sends 408, which clients might retry", 408, 504),
        of("payment-required", "sends 402, which is not a documented code", 402, 403),
    ];
    let all =
        STATUS_TABLE.iter().map(|(name, description, status, code)| of(name, description, *status, *code));
    first.into_iter().chain(all).collect()
}

fn html_page(status: u16) -> bytes::Bytes {
    let head = format!(
        "{status} Error on {INTERNAL_HOSTNAME}\ncontent-type: text/html\nserver: apache/2.4\nx-powered-by: PHP/8.3\nx-{INTERNAL_HOSTNAME}: {INTERNAL_HOSTNAME}"
    );
    http_response(&head, format!("<html><body><h1>It broke</h1><hr>{INTERNAL_HOSTNAME}</body></html>"))
}

#[cfg(test)]
mod tests {
    use super::STATUS_TABLE;

    #[test]
    fn table_lists_every_status_from_400_to_599_once() {
        let mut statuses: Vec<u16> = STATUS_TABLE.iter().map(|(_, _, status, _)| *status).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, (400..=599).collect::<Vec<_>>());
    }
}
