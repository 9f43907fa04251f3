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

    /// Permits a release, or says what is missing.
    pub fn decide(&self, release: &Arc<VerifiedRelease>) -> Result<PermittedRelease, Refusal> {
        if self.0.iter().any(|rule| rule.permits(release)) {
            return Ok(PermittedRelease(Arc::clone(release)));
        }
        Err(Refusal {
            code: RefusalCode::NotAllowed,
            reason: format!(
                "no [[allow]] rule of this node permits {} {} in channel {} with {}; its custodian may add one",
                release.class().as_str(),
                release.product(),
                release.channel(),
                files(release.artifacts().len())
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
    fn permits(&self, release: &VerifiedRelease) -> bool {
        self.class == release.class()
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
        format!("{} {} ({channels}{most})", self.class.as_str(), self.product)
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
        AllowRule { class, product: Product::new(product).unwrap(), channels: None, max_artifacts: None }
    }

    #[test]
    fn nothing_is_allowed_by_default() {
        let refusal = AllowList::default().decide(&Arc::new(release("suite", 1, 1))).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::NotAllowed);
        assert!(refusal.reason.contains("product-build suite in channel stable"), "{}", refusal.reason);
    }

    #[test]
    fn a_rule_allows_its_class_product_channels_and_size() {
        let suite = Arc::new(release("suite", 1, 3));
        let decide = |rule: AllowRule| AllowList::new(vec![rule]).decide(&suite).is_ok();
        assert!(decide(rule(Class::ProductBuild, "suite")));
        assert!(!decide(rule(Class::AvDatabase, "suite")));
        assert!(!decide(rule(Class::ProductBuild, "suites")));
        let channels = |name: &str| Some(vec![Channel::new(name).unwrap()]);
        assert!(decide(AllowRule { channels: channels("stable"), ..rule(Class::ProductBuild, "suite") }));
        assert!(!decide(AllowRule { channels: channels("beta"), ..rule(Class::ProductBuild, "suite") }));
        assert!(decide(AllowRule { max_artifacts: Some(3), ..rule(Class::ProductBuild, "suite") }));
        assert!(!decide(AllowRule { max_artifacts: Some(2), ..rule(Class::ProductBuild, "suite") }));
    }
}
