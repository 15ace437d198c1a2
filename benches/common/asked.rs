//! A figure beside its required value.

pub(crate) fn asked(what: &str, figure: f64, at_most: f64) {
    let verdict = if figure <= at_most { "holds" } else { "MISSED" };
    println!("  {what}: {figure:.2}, asked: at most {at_most} - {verdict}");
}
