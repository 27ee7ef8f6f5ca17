//! Which operators only compute.

use std::collections::HashSet;
use std::sync::LazyLock;

use crate::Severity;
use crate::scan::context::quote;

/// The names of TensorFlow's own operators (2.21), and of those that its text and forest libraries add.
static KNOWN: LazyLock<HashSet<&str>> =
    LazyLock::new(|| include_str!("operators.txt").split_ascii_whitespace().collect());

/// Operators that leave the graph, without the version at the end: what they do, and how bad that is.
const HOST: &[(&str, Severity, &str)] = &[
    ("AutoShardDataset", Severity::Low, "shards files"),
    ("CalibrationStatisticsSaver", Severity::Medium, "writes files"),
    ("CSVDataset", Severity::High, "reads files"),
    ("CreateSummaryDbWriter", Severity::High, "writes a database"),
    ("CreateSummaryFileWriter", Severity::High, "writes files"),
    ("DataServiceDataset", Severity::High, "connects to a server"),
    ("DatasetToTFRecord", Severity::High, "writes files"),
    ("DebugIdentity", Severity::Medium, "sends values to an address"),
    ("DebugNanCount", Severity::Medium, "sends values to an address"),
    ("DebugNumericSummary", Severity::Medium, "sends values to an address"),
    ("DeleteRpcFutureResource", Severity::Medium, "belongs to remote calls"),
    ("DistributedSave", Severity::High, "writes files"),
    ("DumpTensor", Severity::High, "writes files"),
    ("EagerPyFunc", Severity::Critical, "calls Python"),
    ("FileSystemSetConfiguration", Severity::High, "changes how files are reached"),
    ("FixedLengthRecordDataset", Severity::High, "reads files"),
    ("FixedLengthRecordReader", Severity::High, "reads files"),
    ("GenerateVocabRemapping", Severity::Medium, "reads files"),
    ("ImmutableConst", Severity::High, "maps a file"),
    ("ImportEvent", Severity::Medium, "writes files"),
    ("LMDBDataset", Severity::High, "reads files"),
    ("LMDBReader", Severity::High, "reads files"),
    ("ListSnapshotChunksDataset", Severity::High, "lists files"),
    ("LoadAndRemapMatrix", Severity::Medium, "reads files"),
    ("LoadDataset", Severity::High, "reads files"),
    ("MatchingFiles", Severity::High, "lists files"),
    ("MatchingFilesDataset", Severity::High, "lists files"),
    ("PyFunc", Severity::Critical, "calls Python"),
    ("PyFuncStateless", Severity::Critical, "calls Python"),
    ("ReadFile", Severity::High, "reads files"),
    ("RegisterDataset", Severity::High, "connects to a server"),
    ("RpcCall", Severity::High, "calls another machine"),
    ("RpcClient", Severity::High, "connects to a server"),
    ("RpcServer", Severity::High, "opens a port"),
    ("RpcServerRegister", Severity::High, "opens a port"),
    ("RpcServerStart", Severity::High, "opens a port"),
    ("SaveDataset", Severity::High, "writes files"),
    ("SnapshotChunkDataset", Severity::High, "reads files"),
    ("SnapshotDataset", Severity::High, "writes files"),
    ("SnapshotDatasetReader", Severity::High, "reads files"),
    ("SnapshotNestedDatasetReader", Severity::High, "reads files"),
    ("SqlDataset", Severity::High, "reads a database"),
    ("TFRecordDataset", Severity::High, "reads files"),
    ("TFRecordReader", Severity::High, "reads files"),
    ("TextLineDataset", Severity::High, "reads files"),
    ("TextLineReader", Severity::High, "reads files"),
    ("WholeFileReader", Severity::High, "reads files"),
    ("WriteFile", Severity::Critical, "writes files"),
    ("XlaCustomCall", Severity::Medium, "calls a function of a library by its name"),
];

/// Where a saver's own operators lie: joining its pieces deletes files, which is theirs to do.
const MERGE: &str = "MergeV2Checkpoints";

/// Judges an operator: the rule, how bad, and in words. `attribute` gives the texts of its node.
pub(crate) fn judge(
    operator: &str,
    attribute: impl Fn(&str) -> Option<String>,
) -> Option<(&'static str, Severity, String)> {
    let base = operator.trim_end_matches(|c: char| c.is_ascii_digit());
    let base = base.strip_suffix('V').filter(|_| base.len() < operator.len()).unwrap_or(operator);
    let base = base.strip_prefix("Experimental").unwrap_or(base);
    if let Some((_, severity, what)) = HOST.iter().find(|(name, ..)| *name == base) {
        return Some(("tensorflow-operator", *severity, format!("the operator {} {what}", quote(operator))));
    }
    let outside = |key: &str, inside: &[&str]| {
        attribute(key)
            .filter(|value| !value.is_empty() && !inside.iter().any(|start| value.starts_with(start)))
    };
    let path = match base {
        "Print" => outside("output_stream", &["stdout", "stderr", "log("]),
        "DecodeProto" | "EncodeProto" => outside("descriptor_source", &["local://", "bytes://"]),
        "SummaryWriter" => None,
        _ => None,
    };
    if let Some(path) = path {
        let message = format!("the operator {} opens {}", quote(operator), quote(&path));
        return Some(("tensorflow-operator", Severity::High, message));
    }
    if operator == MERGE {
        let message = format!("the operator {MERGE} moves and deletes checkpoint files");
        return Some(("tensorflow-operator", Severity::Low, message));
    }
    if KNOWN.contains(operator) || operator.starts_with("TFText>") {
        return None;
    }
    let message = format!("the operator {} needs a library from outside", quote(operator));
    Some(("tensorflow-custom-operator", Severity::Medium, message))
}
