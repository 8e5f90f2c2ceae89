//! Knows whether another bridge has taken the queue over, or may have. That bridge has the events of the current
//! session, so nothing may be handed over until the next session.

/// The state within one session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Fence {
    #[default]
    Down,
    /// Up, and the dispatcher does not know yet.
    News,
    Reported,
}

impl Fence {
    pub(super) fn begin(&mut self) {
        if *self == Self::Down {
            *self = Self::News;
        }
    }

    pub(super) fn is_up(self) -> bool {
        self != Self::Down
    }

    pub(super) fn is_news(self) -> bool {
        self == Self::News
    }

    /// Returns whether the dispatcher must learn of it, and notes that it does.
    pub(super) fn take_news(&mut self) -> bool {
        let is_news = self.is_news();
        if is_news {
            *self = Self::Reported;
        }
        is_news
    }
}
