use super::*;

fn read(text: &str) -> Result<TableSet> {
    TableSet::read(Path::new("t.csv"), text.as_bytes(), None)
}

#[test]
fn the_label_is_found_by_name_or_is_the_last_column() {
    let set = read("label,x,y\nb,1,2\na,3,4\n").unwrap();
    assert_eq!(set.columns, ["x", "y"]);
    assert_eq!(set.labels, ["a", "b"]);
    assert_eq!(set.targets, [1, 0]);
    assert_eq!(set.row(1), [3.0, 4.0]);
    assert_eq!(read("x,y,kind\n1,2,q\n").unwrap().labels, ["q"]);
    let named = TableSet::read(Path::new("t.csv"), b"x,y,label\n1,2,3\n", Some("x")).unwrap();
    assert_eq!(named.columns, ["y", "label"]);
}

#[test]
fn numeric_labels_are_sorted_as_numbers() {
    assert_eq!(read("x,label\n1,10\n1,9\n1,2\n").unwrap().labels, ["2", "9", "10"]);
}

#[test]
fn errors_name_line_and_column() {
    for (text, part) in [
        ("x,label\n1,a\nfoo,b\n", "line 3, column `x`"),
        ("x,label\nnan,a\n", "line 2"),
        ("x,label\n1,a,2\n", "not a CSV"),
        ("x,label\n", "no rows"),
        ("", "no rows"),
    ] {
        let error = read(text).unwrap_err();
        assert!(error.message().contains(part), "{text:?}: {error}");
        assert_eq!(error.code(), Code::InvalidInput);
    }
}

#[test]
fn the_digest_sees_values_labels_and_columns_but_not_order() {
    let digest = |text| read(text).unwrap().digest();
    let one = digest("x,label\n1,a\n2,b\n");
    assert_eq!(one, digest("x,label\n2,b\n1,a\n"));
    for other in ["x,label\n1,a\n2,a\n", "x,label\n1,a\n3,b\n", "y,label\n1,a\n2,b\n"] {
        assert_ne!(one, digest(other), "{other:?}");
    }
}

#[test]
fn rows_for_prediction_are_picked_by_name() {
    let columns = ["b".to_owned(), "a".to_owned()];
    let rows = read_rows(Path::new("t.csv"), b"a,b,c\n1,2,x\n3,4,y\n", &columns).unwrap();
    assert_eq!(rows, [[2.0, 1.0], [4.0, 3.0]]);
    assert!(read_rows(Path::new("t.csv"), b"a,c\n1,2\n", &columns).unwrap_err().message().contains("`b`"));
}
