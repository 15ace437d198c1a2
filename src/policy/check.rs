//! Refuses settings that cannot work. Each error names the setting and the correction.

use std::time::Duration;

use super::RefreshPolicy;
use crate::error::BuildError;

impl RefreshPolicy {
    /// # Errors
    /// The first impossible setting.
    pub(crate) fn check(&self) -> Result<(), BuildError> {
        longer_than_zero("attempt_timeout", self.attempt_timeout)?;
        longer_than_zero("flight_timeout", self.flight_timeout)?;
        longer_than_zero("wait_timeout", self.wait_timeout)?;
        longer_than_zero("missing_lifetime", self.missing_lifetime)?;
        longer_than_zero("max_lifetime", self.max_lifetime)?;
        longer_than_zero("report_every", self.report_every)?;
        if self.attempts == 0 {
            return Err(BuildError::new("attempts", "must be at least 1: the first call counts"));
        }
        if self.max_waiters == 0 {
            return Err(BuildError::new(
                "max_waiters",
                "must be at least 1: otherwise no caller can wait for a token",
            ));
        }
        if self.reports == 0 {
            let message =
                "must be at least 1: otherwise no report can replace a token: raise `report_every` for fewer";
            return Err(BuildError::new("reports", message));
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            return Err(BuildError::new("jitter", format!("is {}, but must be from 0 to 1", self.jitter)));
        }
        not_beyond("backoff", self.backoff, "max_backoff", self.max_backoff)?;
        not_beyond("cooldown", self.cooldown, "max_cooldown", self.max_cooldown)?;
        match (self.refresh_ahead, self.min_validity) {
            (Some(ahead), Some(validity)) if !ahead.is_zero() && ahead < validity => {
                let message = format!(
                    "{ahead:?} is shorter than min_validity {validity:?}, so no token would be refreshed ahead: make it \
                     longer than that, or leave it out"
                );
                Err(BuildError::new("refresh_ahead", message))
            }
            _ => Ok(()),
        }
    }
}

fn longer_than_zero(field: &'static str, value: Duration) -> Result<(), BuildError> {
    if value.is_zero() {
        return Err(BuildError::new(field, "must be longer than zero: leave it out for the default"));
    }
    Ok(())
}

fn not_beyond(
    field: &'static str,
    value: Duration,
    limit_field: &str,
    limit: Duration,
) -> Result<(), BuildError> {
    if value > limit {
        return Err(BuildError::new(
            field,
            format!("{value:?} exceeds {limit_field} {limit:?}: raise that too"),
        ));
    }
    Ok(())
}
