//! What this node permits: an allow-list from its own configuration, deny by default.
//!
//! The decision is made once for a release, over the typed request alone; nothing that the coordinator believes counts.

use std::sync::Arc;

use rutli_release::{Channel, Class, Product, VerifiedRelease};
use rutli_wire::link::{Refusal, RefusalCode};

/// One thing that is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowRule {
    /// Of this class …
    pub class: Class,
    /// … and this product …
    pub product: Product,
    /// … in one of these channels, or in any.
    pub channels: Option<Vec<Channel>>,
    /// … with at most so many artifacts, or with as many as a release may have.
    pub max_artifacts: Option<u32>,
    /// … also where the log shows a commitment instead of the request until some day. Otherwise only in the open.
    pub embargo: bool,
}

/// Everything that is allowed. Empty: nothing.
#[derive(Clone, Debug, Default)]
pub struct AllowList(Vec<AllowRule>);

/// A release that this node's policy permits. Only [`AllowList::decide`] makes one, and only from one are shares made.
#[derive(Debug)]
pub struct PermittedRelease(Arc<VerifiedRelease>);

impl PermittedRelease {
    /// What was permitted.
    #[must_use]
    pub fn release(&self) -> &VerifiedRelease {
        &self.0
    }
}

impl AllowList {
    /// From the configuration's rules.
    #[must_use]
    pub fn new(rules: Vec<AllowRule>) -> Self {
        Self(rules)
    }

    /// Permits a release, which the log may show as an embargo's commitment alone, or says what is missing.
    pub fn decide(
        &self,
        release: &Arc<VerifiedRelease>,
        embargoed: bool,
    ) -> Result<PermittedRelease, Refusal> {
        if self.0.iter().any(|rule| rule.permits(release, embargoed)) {
            return Ok(PermittedRelease(Arc::clone(release)));
        }
        Err(Refusal {
            code: RefusalCode::NotAllowed,
            reason: format!(
                "no [[allow]] rule of this node permits {} {} in channel {} with {}{}; its custodian may add one",
                release.class().as_str(),
                release.product(),
                release.channel(),
                files(release.artifacts().len()),
                if embargoed { " under embargo" } else { "" }
            ),
        })
    }

    /// One line per rule, for a person.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.0.iter().map(AllowRule::line).collect()
    }
}

impl AllowRule {
    fn permits(&self, release: &VerifiedRelease, embargoed: bool) -> bool {
        (self.embargo || !embargoed)
            && self.class == release.class()
            && self.product == *release.product()
            && self.channels.as_ref().is_none_or(|channels| channels.contains(release.channel()))
            && self
                .max_artifacts
                .is_none_or(|most| u32::try_from(release.artifacts().len()).is_ok_and(|count| count <= most))
    }

    fn line(&self) -> String {
        let channels = self.channels.as_ref().map_or_else(
            || "any channel".to_owned(),
            |channels| channels.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        );
        let most = self.max_artifacts.map_or_else(String::new, |most| {
            format!(", at most {}", files(usize::try_from(most).unwrap_or(usize::MAX)))
        });
        let embargo = if self.embargo { ", also under embargo" } else { "" };
        format!("{} {} ({channels}{most}{embargo})", self.class.as_str(), self.product)
    }
}

fn files(count: usize) -> String {
    if count == 1 { "1 file".to_owned() } else { format!("{count} files") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::release;

    fn rule(class: Class, product: &str) -> AllowRule {
        let product = Product::new(product).unwrap();
        AllowRule { class, product, channels: None, max_artifacts: None, embargo: false }
    }

    #[test]
    fn nothing_is_allowed_by_default() {
        let refusal = AllowList::default().decide(&Arc::new(release("suite", 1, 1)), false).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::NotAllowed);
        assert!(refusal.reason.contains("product-build suite in channel stable"), "{}", refusal.reason);
    }

    #[test]
    fn a_rule_allows_its_class_product_channels_and_size() {
        let suite = Arc::new(release("suite", 1, 3));
        let decide = |rule: AllowRule| AllowList::new(vec![rule]).decide(&suite, false).is_ok();
        assert!(decide(rule(Class::ProductBuild, "suite")));
        assert!(!decide(rule(Class::AvDatabase, "suite")));
        assert!(!decide(rule(Class::ProductBuild, "suites")));
        let channels = |name: &str| Some(vec![Channel::new(name).unwrap()]);
        assert!(decide(AllowRule { channels: channels("stable"), ..rule(Class::ProductBuild, "suite") }));
        assert!(!decide(AllowRule { channels: channels("beta"), ..rule(Class::ProductBuild, "suite") }));
        assert!(decide(AllowRule { max_artifacts: Some(3), ..rule(Class::ProductBuild, "suite") }));
        assert!(!decide(AllowRule { max_artifacts: Some(2), ..rule(Class::ProductBuild, "suite") }));
    }

    /// Not even beside a rule that allows embargoes for something else.
    #[test]
    fn an_embargo_is_allowed_by_the_rule_that_allows_its_release() {
        let suite = Arc::new(release("suite", 1, 1));
        let plain = rule(Class::ProductBuild, "suite");
        let other = AllowRule { embargo: true, ..rule(Class::ProductBuild, "other") };
        let list = AllowList::new(vec![plain.clone(), other.clone()]);
        assert!(list.decide(&suite, false).is_ok());
        let refusal = list.decide(&suite, true).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::NotAllowed);
        assert!(refusal.reason.contains("with 1 file under embargo;"), "{}", refusal.reason);
        let list = AllowList::new(vec![other, AllowRule { embargo: true, ..plain }]);
        assert!(list.decide(&suite, false).is_ok() && list.decide(&suite, true).is_ok());
        assert_eq!(list.lines()[1], "product-build suite (any channel, also under embargo)");
    }
}
