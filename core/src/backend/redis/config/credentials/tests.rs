use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::asked::{Ask, AskedCredentials};
use crate::error::Error;
use crate::runtime::sync::Mutex;

/// Asked credentials whose questions are kept.
fn asked() -> (Arc<AskedCredentials>, Arc<Mutex<Vec<Ask>>>) {
    let questions = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&questions);
    (AskedCredentials::new(move |ask| kept.lock().push(ask)), questions)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

/// Asked for the first time, and answered.
async fn answered(expires_in: Option<f64>) -> (Arc<AskedCredentials>, Arc<Mutex<Vec<Ask>>>) {
    let (source, questions) = asked();
    let (ready, ()) = tokio::join!(source.ready(soon()), async {
        sleep(Duration::from_millis(1)).await;
        source.supply(1, None, "one".into(), expires_in);
    });
    ready.unwrap();
    (source, questions)
}

#[tokio::test(start_paused = true)]
async fn others_are_asked_for_ahead_of_the_expiry() {
    let (_source, questions) = answered(Some(100_000.0)).await;
    sleep(Duration::from_secs(69)).await;
    assert_eq!(questions.lock().len(), 1);
    sleep(Duration::from_secs(12)).await;
    assert_eq!(questions.lock().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_same_short_lived_ones_are_not_asked_for_all_the_time() {
    let (source, questions) = answered(Some(1.0)).await;
    for number in 2..=10 {
        sleep(Duration::from_millis(1_001)).await;
        source.supply(number, None, "one".into(), Some(1.0));
    }
    assert!((9..=10).contains(&questions.lock().len()));
    assert_eq!(source.current().unwrap().version, 0);
}

#[tokio::test(start_paused = true)]
async fn refusals_by_all_connections_are_one_question_and_more_of_them_are_rare() {
    let (source, questions) = answered(None).await;
    let used = source.current().unwrap();
    sleep(Duration::from_secs(60)).await;
    for _ in 0..100 {
        source.refused(&used, "WRONGPASS");
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(questions.lock().len(), 2);
    assert_eq!(questions.lock()[1].refusal.as_deref(), Some("WRONGPASS"));
    for _ in 0..60_000 {
        let number = questions.lock().len() as u32;
        source.supply(number, None, "one".into(), None);
        source.refused(&used, "WRONGPASS");
        sleep(Duration::from_millis(1)).await;
    }
    assert!((7..=20).contains(&questions.lock().len()), "{}", questions.lock().len());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_former_ones_is_no_news() {
    let (source, questions) = answered(Some(10_000.0)).await;
    let former = source.current().unwrap();
    sleep(Duration::from_secs(9)).await;
    source.supply(2, None, "two".into(), None);
    source.refused(&former, "WRONGPASS");
    sleep(Duration::from_secs(60)).await;
    assert_eq!(questions.lock().len(), 2);
    assert!(!source.has_newer_than_refused(&source.current().unwrap(), soon()).await);
    assert!(source.has_newer_than_refused(&former, soon()).await);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_never_comes_is_given_up_and_one_that_comes_late_is_taken() {
    let (source, questions) = asked();
    let error = source.ready(soon()).await.unwrap_err();
    assert!(error.to_string().contains("returned nothing within connectTimeoutMs"), "{error}");
    sleep(Duration::from_secs(26)).await;
    assert_eq!(questions.lock().len(), 2);
    source.fail(1, "late".into());
    source.supply(1, None, "one".into(), None);
    source.ready(soon()).await.unwrap();
    source.supply(2, None, "two".into(), None);
    source.supply(1, None, "one".into(), None);
    assert_eq!(source.current().unwrap().password.reveal(), "two");
}

#[tokio::test(start_paused = true)]
async fn after_the_end_nothing_is_asked() {
    let (source, questions) = answered(Some(2_000.0)).await;
    source.close();
    source.supply(1, None, "two".into(), None);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(questions.lock().len(), 1);
    let (never, none) = asked();
    never.close();
    assert!(matches!(never.ready(soon()).await, Err(Error::Closed)));
    assert_eq!(none.lock().len(), 0);
}
