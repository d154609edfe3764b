//! Comments on objects. COMMENT is not supported, so that nothing has one.

use datafusion::error::Result;

use super::Argument::{Int, Text};
use super::{SystemFunction, strict};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::Kind;
use crate::catalog::system::value::Value;

pub(super) const FUNCTIONS: &[SystemFunction] = &[
    strict("obj_description", &[&[Int], &[Int, Text]], Kind::Text, no_comment),
    strict("col_description", &[&[Int, Int]], Kind::Text, no_comment),
    strict("shobj_description", &[&[Int, Text]], Kind::Text, no_comment),
];

fn no_comment(_catalog: &SystemCatalog, _arguments: &[Value]) -> Result<Value> {
    Ok(Value::Null)
}
