use super::*;
use crate::error::Error;

const INTERVAL: Duration = Duration::from_secs(30);
const HOUR: Duration = Duration::from_hours(1);

fn missed(id: ErrorId) -> HeartbeatOutcome {
    HeartbeatOutcome::Missed(HeartbeatFailure {
        error: Error::new(id, "cause"),
        retry_after: None,
        is_refusal: false,
    })
}

/// The lines of tries every 30 s, and when each came.
async fn lines(
    time: Duration,
    mut beat: impl FnMut(u32) -> Option<ErrorId>,
) -> Vec<(Duration, String)> {
    let mut teller = FailureLog::default();
    let mut lines = Vec::new();
    let start = Instant::now();
    for number in 0.. {
        let at = start.elapsed();
        if at >= time {
            break;
        }
        let beat = beat(number).map_or(HeartbeatOutcome::Accepted, missed);
        match teller.line(&beat, INTERVAL, Instant::now()) {
            Some(Line::Good(text) | Line::Bad(text)) => lines.push((at, text)),
            None => {}
        }
        tokio::time::advance(INTERVAL).await;
    }
    lines
}

type Pattern = Box<dyn FnMut(u32) -> Option<ErrorId>>;

const KINDS: [ErrorId; 6] = [
    ErrorId::Unreachable,
    ErrorId::Rejected,
    ErrorId::Refused,
    ErrorId::Forbidden,
    ErrorId::NotThisProtocol,
    ErrorId::Untrusted,
];

#[tokio::test(start_paused = true)]
async fn a_month_without_the_hub_is_a_few_lines_at_widening_intervals() {
    // Two causes that alternate are not a change each time.
    let lines = lines(30 * 24 * HOUR, |number| {
        Some([ErrorId::Unreachable, ErrorId::Untrusted][number as usize % 2])
    })
    .await;
    let at: Vec<_> = lines.iter().map(|(at, _)| *at).collect();
    assert_eq!(at[..2], [Duration::ZERO, INTERVAL], "each cause at once");
    assert!((30..50).contains(&at.len()), "{at:?}");
    assert_eq!(at[at.len() - 1].saturating_sub(at[at.len() - 2]), SELDOM);
    let pauses: Vec<_> = at
        .windows(2)
        .map(|pair| pair[1].saturating_sub(pair[0]))
        .collect();
    assert!(pauses.is_sorted(), "{pauses:?}");
    let last = &lines.last().unwrap().1;
    assert!(last.contains("2879 more failed and 0 were taken"), "{last}");
}

#[tokio::test(start_paused = true)]
async fn a_week_of_a_hub_that_comes_and_goes_is_ten_lines_an_hour_at_most() {
    let mut random = fastrand::Rng::with_seed(1);
    let patterns: [(&str, Pattern); 8] = [
        (
            "200, 503, 401, 500",
            Box::new(|number| match number % 4 {
                0 => None,
                2 => Some(ErrorId::Rejected),
                _ => Some(ErrorId::Unreachable),
            }),
        ),
        (
            "every second one",
            Box::new(|number| (number % 2 == 0).then_some(ErrorId::Unreachable)),
        ),
        (
            "each kind, with a success between",
            Box::new(|number| (number % 2 == 0).then_some(KINDS[number as usize / 2 % 6])),
        ),
        (
            "each kind in a row, then well for nine minutes",
            Box::new(|number| KINDS.get(number as usize % 24).copied()),
        ),
        (
            "each kind in a row, then well for an hour",
            Box::new(|number| KINDS.get(number as usize % 128).copied()),
        ),
        (
            "half an hour each",
            Box::new(|number| (number / 60 % 2 == 0).then_some(ErrorId::Unreachable)),
        ),
        (
            "a failure every 61 minutes",
            Box::new(|number| (number % 122 == 1).then_some(ErrorId::Unreachable)),
        ),
        (
            "by chance",
            Box::new(move |_| random.bool().then(|| KINDS[random.usize(..6)])),
        ),
    ];
    for (name, pattern) in patterns {
        let week = 7 * 24 * HOUR;
        let lines = lines(week, pattern).await;
        let at: Vec<_> = lines.iter().map(|(at, _)| *at).collect();
        let worst = at
            .iter()
            .map(|begin| {
                at.iter()
                    .filter(|&&at| (*begin..*begin + HOUR).contains(&at))
                    .count()
            })
            .max();
        assert!(worst <= Some(12), "{name}: {worst:?} lines in an hour");
        assert!(at.len() <= 10 * 7 * 24, "{name}: {} in a week", at.len());
        // It is never quiet for long either, and what was left out is summed up.
        let silence = at
            .windows(2)
            .map(|pair| pair[1].saturating_sub(pair[0]))
            .max();
        assert!(silence <= Some(2 * HOUR), "{name}: {silence:?} of silence");
        let sums = lines
            .iter()
            .any(|(_, text)| text.contains("since the line before"));
        let nothing_left_out = name.contains("for an hour") || name.contains("61 minutes");
        assert!(sums || nothing_left_out, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn only_a_change_is_logged_and_what_was_said_to_fail_is_said_to_be_well() {
    let mut teller = FailureLog::default();
    let mut says = |beat: &HeartbeatOutcome| teller.line(beat, INTERVAL, Instant::now());
    assert!(says(&HeartbeatOutcome::Accepted).is_some());
    assert!(says(&HeartbeatOutcome::Accepted).is_none());
    assert!(says(&missed(ErrorId::Unreachable)).is_some());
    assert!(says(&missed(ErrorId::Unreachable)).is_none());
    assert!(says(&missed(ErrorId::Rejected)).is_some());
    assert!(says(&HeartbeatOutcome::NotSent).is_none());
    assert!(matches!(
        says(&HeartbeatOutcome::Accepted),
        Some(Line::Good(_))
    ));
    assert!(says(&HeartbeatOutcome::Accepted).is_none());
    // Known, and a minute is not over.
    assert!(says(&missed(ErrorId::Unreachable)).is_none());
    assert!(
        says(&HeartbeatOutcome::Accepted).is_none(),
        "nothing said that it failed"
    );
    tokio::time::advance(2 * SOON).await;
    assert!(says(&missed(ErrorId::Unreachable)).is_some());
    assert!(says(&HeartbeatOutcome::Accepted).is_some());
    tokio::time::advance(HOUR).await;
    assert!(says(&HeartbeatOutcome::Accepted).is_none());
    assert!(
        says(&missed(ErrorId::Unreachable)).is_some(),
        "forgotten by now"
    );
}

/// The last line is never one of a failure for longer than an hour while the hub is well.
#[tokio::test(start_paused = true)]
async fn a_recovery_that_came_too_soon_for_a_line_is_logged_later() {
    let mut were_late = 0;
    for end in (1..80).step_by(2) {
        let lines = lines(3 * HOUR, |number| {
            (number < end && number % 2 == 0).then_some(KINDS[number as usize / 2 % 6])
        })
        .await;
        let (at, last) = lines.last().unwrap();
        assert!(
            last.starts_with("the hub takes heartbeats again, "),
            "{end}: {last}"
        );
        assert!(*at <= INTERVAL * end + HOUR, "{end}: {at:?}");
        were_late += u32::from(last.contains("again, for"));
    }
    assert!(were_late > 0, "each pattern ended between two pauses");
}

/// An outage that begins after days of flapping is in the log within the hour.
#[tokio::test(start_paused = true)]
async fn a_long_outage_after_a_hub_that_came_and_went_is_logged() {
    let begin = 48 * 120;
    let lines = lines(72 * HOUR, |number| {
        (number >= begin || number % 2 == 0).then_some(ErrorId::Unreachable)
    })
    .await;
    let outage = INTERVAL * begin;
    let told = lines.iter().filter(|(at, _)| *at > outage).count();
    assert!((4..12).contains(&told), "{told}");
    let first = lines
        .iter()
        .find(|(at, text)| *at > outage && text.contains("now)"));
    assert!(first.unwrap().0 <= outage + HOUR + INTERVAL);
}
