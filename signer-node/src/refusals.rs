//! Files that this node remembers: those that custodians refused, and those that it permitted before.
//!
//! A refusal is about a product and files. Any release of that product with one of those files is refused,
//! whatever else it says (another time or sequence, other formats, a file fewer), and even if the document is
//! removed afterwards. Files that this node permitted in an earlier release do not count, because a refusal
//! would otherwise also refuse what other releases share with the refused one; unless all of its files are
//! such files.
//!
//! Everything here is bounded: the oldest is forgotten first.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use rutli_evidence::Refused;
use rutli_release::{Product, VerifiedRelease};
use rutli_wire::link::{Refusal, RefusalCode};
use smallvec::SmallVec;

use crate::limits;

/// A custodian's refusal that this node verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustodianRefusal {
    /// SHA-256 of the statement that the custodian looked at.
    pub statement: [u8; 32],
    /// Of this product …
    pub product: Product,
    /// … any release with one of these files, by SHA-256. Empty once the journal has it.
    pub files: Vec<[u8; 32]>,
    /// Whose refusal: the name in the allowed-signers file.
    pub custodian: String,
    /// Why, in one printable line.
    pub reason: String,
    /// SHA-256 of the document.
    pub document: [u8; 32],
}

/// Refused and permitted files.
#[derive(Debug, Default)]
pub struct Refusals {
    kept: BTreeMap<u64, Kept>,
    documents: HashMap<[u8; 32], u64>,
    statements: HashMap<[u8; 32], u64>,
    files: HashMap<Product, HashMap<FileKey, u64>>,
    /// Number of the next refusal: older ones have lower numbers.
    next: u64,
    permitted: PermittedFiles,
}

#[derive(Debug)]
struct Kept {
    refusal: CustodianRefusal,
    durable: bool,
}

/// By number of the product: the first statement that had a file. Few files are in more than one.
type Firsts = SmallVec<[(u32, [u8; 8]); 1]>;

/// Files that this node permitted, of each product: the first statement that had each of them. At most
/// [`limits::MAX_PERMITTED_FILES`] in all. The product that has most of them forgets its oldest first, so that no product makes
/// another one's forgotten.
#[derive(Debug, Default)]
pub struct PermittedFiles {
    /// In which products, in the order in which it was permitted.
    first: HashMap<FileKey, Firsts>,
    products: HashMap<Product, u32>,
    /// By product: oldest first.
    order: Vec<VecDeque<FileKey>>,
    held: usize,
}

/// The first half of a SHA-256: nobody can find another file with the same half.
pub type FileKey = [u8; 16];

impl Refusals {
    /// From the journal, oldest first.
    pub fn from_rows(rows: impl IntoIterator<Item = CustodianRefusal>, permitted: PermittedFiles) -> Self {
        let mut refusals = Self { permitted, ..Self::default() };
        for refusal in rows {
            let document = refusal.document;
            if !refusals.documents.contains_key(&document) {
                refusals.insert(refusal);
            }
            refusals.settle(&document);
        }
        refusals
    }

    /// The newest refusal of this release, whose statement has this SHA-256.
    #[must_use]
    pub fn of(&self, release: &VerifiedRelease, statement: &[u8; 32]) -> Option<&CustodianRefusal> {
        let files = self.files.get(release.product());
        let of_files =
            release.artifacts().iter().filter_map(|artifact| files?.get(&file_key(&artifact.sha256)));
        let number = of_files.chain(self.statements.get(statement)).max()?;
        self.kept.get(number).map(|kept| &kept.refusal)
    }

    /// Records this document's refusal, if it is about the release. It is durable once [`Refusals::settle`]
    /// is called.
    pub fn learn(
        &mut self,
        release: &VerifiedRelease,
        (custodian, reason, refused): (&str, &str, &Refused),
        document: [u8; 32],
    ) {
        if self.documents.contains_key(&document) {
            return;
        }
        // Whatever was permitted for another product takes nothing away from this refusal: anybody might have it permitted there.
        let of_others =
            |file: &&[u8; 32]| self.permitted.is_of_another(&refused.product, file, &refused.statement);
        let (before, fresh): (Vec<_>, Vec<_>) = refused.files.iter().partition(of_others);
        let files: BTreeSet<[u8; 32]> = if fresh.is_empty() {
            before.into_iter().copied().collect()
        } else {
            fresh.into_iter().copied().collect()
        };
        let binding = Refused { files, ..refused.clone() };
        if !binding.is_about(release) {
            return;
        }
        self.insert(CustodianRefusal {
            statement: binding.statement,
            product: binding.product,
            files: binding.files.into_iter().collect(),
            custodian: custodian.to_owned(),
            reason: reason.to_owned(),
            document,
        });
    }

    /// The refusals of these documents that are not in the journal yet, and must be written.
    #[must_use]
    pub fn unsaved(&self, documents: impl Iterator<Item = [u8; 32]>) -> Vec<CustodianRefusal> {
        let kept = documents.filter_map(|document| self.kept.get(self.documents.get(&document)?));
        kept.filter(|kept| !kept.durable).map(|kept| kept.refusal.clone()).collect()
    }

    /// The journal has the refusal of this document.
    pub fn settle(&mut self, document: &[u8; 32]) {
        let number = self.documents.get(document);
        if let Some(kept) = number.and_then(|number| self.kept.get_mut(number)) {
            kept.durable = true;
            // They are found by their keys.
            kept.refusal.files = Vec::new();
        }
    }

    /// What was permitted.
    #[must_use]
    pub fn permitted(&self) -> &PermittedFiles {
        &self.permitted
    }

    /// A release was permitted for the first time.
    pub fn permit(&mut self, release: &VerifiedRelease, statement: &[u8; 32]) {
        let files = release.artifacts().iter().map(|artifact| file_key(&artifact.sha256));
        files.for_each(|file| self.permitted.add(release.product(), file, statement));
    }

    fn insert(&mut self, refusal: CustodianRefusal) {
        let number = self.next;
        self.next += 1;
        self.documents.insert(refusal.document, number);
        self.statements.insert(refusal.statement, number);
        // The newest refusal of a file is kept longest.
        let files = self.files.entry(refusal.product.clone()).or_default();
        files.extend(refusal.files.iter().map(|file| (file_key(file), number)));
        self.kept.insert(number, Kept { refusal, durable: false });
        while self.kept.len() > limits::MAX_CUSTODIAN_REFUSALS
            || self.files.values().map(HashMap::len).sum::<usize>() > limits::MAX_REFUSED_FILES
        {
            let Some((oldest, Kept { refusal, .. })) = self.kept.pop_first() else { return };
            self.documents.remove(&refusal.document);
            self.statements.retain(|_, number| *number != oldest);
            if let Some(files) = self.files.get_mut(&refusal.product) {
                files.retain(|_, number| *number != oldest);
            }
            self.files.retain(|_, files| !files.is_empty());
        }
    }
}

impl PermittedFiles {
    /// How many files of a release were permitted in an earlier one, of whichever product. A release that
    /// comes again does not precede itself.
    #[must_use]
    pub fn count(&self, release: &VerifiedRelease, statement: &[u8; 32]) -> u64 {
        let files: BTreeSet<_> = release.artifacts().iter().map(|artifact| &artifact.sha256).collect();
        let is_of_another = |file: &&[u8; 32]| {
            let first = self.first.get(&file_key(file)).and_then(|products| products.first());
            first.is_some_and(|(_, first)| *first != short(statement))
        };
        u64::try_from(files.into_iter().filter(is_of_another).count()).unwrap_or(u64::MAX)
    }

    fn is_of_another(&self, product: &Product, file: &[u8; 32], statement: &[u8; 32]) -> bool {
        let Some(product) = self.products.get(product) else { return false };
        let products = self.first.get(&file_key(file)).into_iter().flatten();
        products.filter(|(of, _)| of == product).any(|(_, first)| *first != short(statement))
    }

    /// A statement of a product with this file was permitted.
    pub fn add(&mut self, product: &Product, file: FileKey, statement: &[u8; 32]) {
        let number = match self.products.get(product) {
            Some(number) => *number,
            None => {
                let number = u32::try_from(self.order.len()).unwrap_or(u32::MAX);
                self.products.insert(product.clone(), number);
                self.order.push(VecDeque::new());
                number
            }
        };
        let products = self.first.entry(file).or_default();
        if products.iter().any(|(of, _)| *of == number) {
            return;
        }
        products.push((number, short(statement)));
        if let Some(order) = usize::try_from(number).ok().and_then(|number| self.order.get_mut(number)) {
            order.push_back(file);
        }
        self.held += 1;
        if self.held > limits::MAX_PERMITTED_FILES {
            self.forget_one();
        }
    }

    fn forget_one(&mut self) {
        let most = self.order.iter_mut().enumerate().max_by_key(|(_, files)| files.len());
        let Some((number, oldest)) = most.and_then(|(number, files)| Some((number, files.pop_front()?)))
        else {
            return;
        };
        if let Some(products) = self.first.get_mut(&oldest) {
            products.retain(|(of, _)| usize::try_from(*of).ok() != Some(number));
            if products.is_empty() {
                self.first.remove(&oldest);
            }
        }
        self.held -= 1;
    }
}

/// Of a file's SHA-256.
pub fn file_key(file: &[u8; 32]) -> FileKey {
    file.first_chunk().copied().unwrap_or_default()
}

fn short(statement: &[u8; 32]) -> [u8; 8] {
    statement.first_chunk().copied().unwrap_or_default()
}

impl CustodianRefusal {
    /// What is answered from then on.
    #[must_use]
    pub fn answer(&self) -> Refusal {
        let Self { custodian, reason, product, .. } = self;
        Refusal::new(
            RefusalCode::CustodianRefused,
            format!(
                "the custodian {custodian} refused it permanently: {reason}; every release of {product} with one of the refused files \
                 is refused: speak to {custodian}, and release other files"
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::release;

    /// Releases of [`release`] have files of the digests 0, 1, 2 ….
    fn refused(statement: u8, files: &[u8]) -> Refused {
        let product = Product::new("suite").unwrap();
        Refused { statement: [statement; 32], product, files: files.iter().map(|file| [*file; 32]).collect() }
    }

    fn learn(refusals: &mut Refusals, document: u8, refused: &Refused) {
        refusals.learn(&release("suite", 1, 3), ("anna", "no", refused), [document; 32]);
    }

    fn is_refused(refusals: &Refusals, product: &str, files: u8) -> bool {
        refusals.of(&release(product, 9, files), &[99; 32]).is_some()
    }

    #[test]
    fn a_refusal_is_about_files_of_a_product_and_about_a_statement() {
        let mut refusals = Refusals::default();
        learn(&mut refusals, 1, &refused(7, &[2, 40]));
        assert!(is_refused(&refusals, "suite", 3) && is_refused(&refusals, "suite", 4));
        assert!(!is_refused(&refusals, "suite", 2), "without that file");
        assert!(!is_refused(&refusals, "other", 3), "another product");
        assert!(refusals.of(&release("suite", 1, 1), &[7; 32]).is_some(), "the statement that was looked at");
        // A refusal that shares no file with the release it came with is not about it.
        let mut refusals = Refusals::default();
        learn(&mut refusals, 2, &refused(8, &[50]));
        assert!(!is_refused(&refusals, "suite", 51));
    }

    #[test]
    fn files_of_earlier_releases_are_not_taken_back_unless_all_are_such() {
        let mut refusals = Refusals::default();
        refusals.permit(&release("suite", 1, 2), &[1; 32]);
        learn(&mut refusals, 1, &refused(7, &[0, 1, 2]));
        assert!(is_refused(&refusals, "suite", 3) && !is_refused(&refusals, "suite", 2));
        // Of the very release that was permitted: nothing is earlier than itself.
        let mut refusals = Refusals::default();
        refusals.permit(&release("suite", 1, 2), &[7; 32]);
        learn(&mut refusals, 1, &refused(7, &[0, 1, 2]));
        assert!(is_refused(&refusals, "suite", 1));
        // All of it was permitted before.
        let mut refusals = Refusals::default();
        refusals.permit(&release("suite", 1, 2), &[1; 32]);
        learn(&mut refusals, 1, &refused(7, &[0, 1]));
        assert!(is_refused(&refusals, "suite", 1));
    }

    #[test]
    fn a_refusal_is_written_until_it_is_durable() {
        let mut refusals = Refusals::default();
        learn(&mut refusals, 1, &refused(7, &[0]));
        learn(&mut refusals, 2, &refused(7, &[1]));
        let documents = || [[1; 32], [2; 32], [3; 32]].into_iter();
        let unsaved: Vec<_> =
            refusals.unsaved(documents()).into_iter().map(|refusal| refusal.files).collect();
        assert_eq!(unsaved, [vec![[0; 32]], vec![[1; 32]]], "a second custodian may refuse more");
        refusals.settle(&[1; 32]);
        assert_eq!(refusals.unsaved(documents()).len(), 1);
        assert!(is_refused(&refusals, "suite", 1), "also without its list");
    }

    fn digest(number: usize) -> [u8; 32] {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&number.to_be_bytes());
        digest
    }

    /// The files of a release are always in memory; only the files that refusals name are bounded.
    #[test]
    fn refusals_and_their_files_are_bounded_and_the_newest_stay() {
        let row = |number: usize, files: std::ops::Range<usize>| CustodianRefusal {
            statement: digest(number),
            product: Product::new("suite").unwrap(),
            files: files.map(digest).collect(),
            custodian: "anna".into(),
            reason: "no".into(),
            document: digest(number),
        };
        let most = limits::MAX_REFUSED_FILES;
        let half = most / 2;
        let rows = [row(0, 0..1), row(1, 1..1 + half), row(2, 1 + half..most), row(3, most..most + 1)];
        let refusals = Refusals::from_rows(rows, PermittedFiles::default());
        assert_eq!(refusals.kept.keys().collect::<Vec<_>>(), [&1, &2, &3], "one file, and there is room");
        let sum = |refusals: &Refusals| refusals.files.values().map(HashMap::len).sum::<usize>();
        assert!(sum(&refusals) <= most && refusals.documents.len() == 3 && refusals.statements.len() == 3);
        let many = (0..limits::MAX_CUSTODIAN_REFUSALS + 2).map(|number| row(number, 5..6));
        let refusals = Refusals::from_rows(many, PermittedFiles::default());
        assert_eq!(refusals.kept.len(), limits::MAX_CUSTODIAN_REFUSALS);
        assert_eq!(refusals.kept.first_key_value().map(|(number, _)| *number), Some(2));
        assert_eq!(sum(&refusals), 1, "the newest that names it has it");
    }

    #[test]
    fn files_are_counted_that_another_release_had_first() {
        let mut refusals = Refusals::default();
        let count = |refusals: &Refusals, release: &VerifiedRelease, statement: u8| {
            refusals.permitted().count(release, &[statement; 32])
        };
        let (first, second) = (release("suite", 1, 2), release("suite", 2, 3));
        assert_eq!(count(&refusals, &first, 1), 0);
        refusals.permit(&first, &[1; 32]);
        assert_eq!((count(&refusals, &first, 1), count(&refusals, &second, 2)), (0, 2));
        refusals.permit(&second, &[2; 32]);
        assert_eq!((count(&refusals, &second, 2), count(&refusals, &first, 1)), (2, 0), "again");
        // In another product too, and there it changes nothing for the release that had them first.
        let other = release("other", 1, 2);
        assert_eq!(count(&refusals, &other, 3), 2);
        refusals.permit(&other, &[3; 32]);
        assert_eq!((count(&refusals, &other, 3), count(&refusals, &first, 1)), (2, 0));
    }

    /// Somebody who may have anything permitted in another product takes nothing away from a refusal.
    #[test]
    fn what_was_permitted_in_another_product_takes_nothing_from_a_refusal() {
        let mut refusals = Refusals::default();
        refusals.permit(&release("suite", 1, 1), &[1; 32]);
        refusals.permit(&release("other", 1, 3), &[2; 32]);
        learn(&mut refusals, 1, &refused(7, &[2, 40]));
        assert!(is_refused(&refusals, "suite", 3));
    }

    #[test]
    fn a_product_makes_no_files_of_another_forgotten() {
        let (quiet, busy) = (Product::new("quiet").unwrap(), Product::new("busy").unwrap());
        let mut files = PermittedFiles::default();
        let most = limits::MAX_PERMITTED_FILES;
        for number in 0..most / 4 {
            files.add(&quiet, file_key(&digest(number)), &[1; 32]);
        }
        for number in most..3 * most {
            files.add(&busy, file_key(&digest(number)), &[2; 32]);
        }
        let knows =
            |product: &Product, number: usize| files.is_of_another(product, &digest(number), &[9; 32]);
        assert!(knows(&quiet, 0) && knows(&quiet, most / 4 - 1), "a quarter of all");
        assert!(!knows(&busy, most) && knows(&busy, 3 * most - 1), "its own oldest");
        assert_eq!((files.held, files.first.len()), (most, most));
    }
}
