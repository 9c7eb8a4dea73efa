//! An application that does not give up: it sends every step with one key until the answer is definite.

use std::time::Duration;

use crate::payments::own::{self, Over, Own, Paid, Says, Step};
use crate::support::shop::Shop;
use crate::support::wire::Message;

/// What the application was told of a step, for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub status: u16,
    pub id: Option<String>,
    pub gateway: String,
}

/// How far it came.
#[derive(Debug, PartialEq, Eq)]
pub enum Came {
    /// Every step has its answer.
    Through,
    /// Nobody answers any more.
    Cut,
    /// Nobody can say what became of the payment, however often it is asked for.
    Undecided,
}

/// Its memory.
pub struct Application {
    own: Own,
    over: Over,
    pub steps: &'static [Step],
    pub told: Vec<Told>,
    /// The order that is paid, once it is opened.
    pub order: String,
    token: String,
    /// After how long a doubt counts as one for good; `None` where every payment must be decided.
    pub gives_up: Option<Duration>,
}

impl Application {
    /// Opens its order, and fetches its credential where it needs one.
    pub async fn new(own: Own, over: Over, steps: &'static [Step], shop: &Shop) -> Self {
        Self {
            own,
            over,
            steps,
            told: Vec::new(),
            order: own.open(shop, "order-kill").await,
            token: own.token(shop).await,
            gives_up: None,
        }
    }

    /// Asks for every step, those it was told of already again, as an application does that lost its memory of them.
    pub async fn run(&mut self, shop: &Shop) -> Came {
        for index in 0..self.steps.len() {
            let mut last = None;
            let begun = tokio::time::Instant::now();
            let told = loop {
                let Some(answer) = self.ask(shop, index).await else {
                    return Came::Cut;
                };
                match self.told(shop, index, &answer).await {
                    Some(Some(told)) => break told,
                    Some(None) => {}
                    None => return Came::Cut,
                }
                if self.gives_up.is_some_and(|after| begun.elapsed() > after) {
                    return Came::Undecided;
                }
                assert!(
                    begun.elapsed() < Duration::from_secs(90),
                    "{:?}: no definite answer: {} {}\nbefore: {last:?}\n{}\n{}",
                    self.steps[index],
                    answer.start,
                    answer.text(),
                    shop.timeline(answer.header("sentinel-payment").unwrap_or_default()),
                    shop.sentinel.log()
                );
                last = Some((answer.start.clone(), answer.text()));
                own::pause().await;
            };
            match self.told.get(index) {
                Some(before) => assert_eq!(*before, told, "two answers to {:?}", self.steps[index]),
                None => self.told.push(told),
            }
        }
        Came::Through
    }

    async fn ask(&self, shop: &Shop, index: usize) -> Option<Message> {
        let paid = Paid {
            order: &self.order,
            over: self.over,
            token: &self.token,
            id: self
                .told
                .first()
                .and_then(|told| told.id.as_deref())
                .unwrap_or_default(),
        };
        let ask = self
            .own
            .ask(shop, self.steps[index], &format!("step-number-{index}"), &paid);
        ask.attempt().await
    }

    /// What a definite answer told; `Some(None)` for one that is none yet, `None` where nobody answers any more.
    async fn told(&self, shop: &Shop, index: usize, answer: &Message) -> Option<Option<Told>> {
        let step = self.steps[index];
        let done = match step {
            Step::Sale | Step::Hold => {
                let says = self.own.says(shop, answer).await?;
                says.unwrap_or_else(|wrong| panic!("{wrong}")) == Says::Taken
            }
            Step::Capture | Step::Void | Step::Refund => {
                let known = !answer
                    .header("sentinel-outcome")
                    .is_some_and(|outcome| outcome.starts_with("unknown"));
                known && matches!(answer.status(), 200..=204)
            }
        };
        Some(done.then(|| Told {
            status: answer.status(),
            id: self.own.id(step, answer),
            gateway: answer.header("sentinel-gateway").unwrap_or_default().to_owned(),
        }))
    }
}
