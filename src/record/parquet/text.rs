//! Strings read as bytes, and made strings again afterwards: one value that is not UTF-8 would
//! otherwise make its whole row group unreadable.

use std::sync::Arc;

use arrow_array::builder::StringViewBuilder;
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, ListArray, MapArray, StringViewArray, StructArray};
use arrow_schema::{DataType, FieldRef};
use parquet::basic::{ConvertedType, LogicalType, Type as PhysicalType};
use parquet::schema::types::{BasicTypeInfo, SchemaDescriptor, Type, TypePtr};

use super::guard::Fault;

/// The same columns, strings (JSON and names of enumerations are some too) being of type `text`;
/// without one, they are bytes.
pub(super) fn with_text(
    schema: &SchemaDescriptor,
    text: Option<&LogicalType>,
) -> Result<SchemaDescriptor, Fault> {
    let root = schema.root_schema();
    let fields = root.get_fields().iter().map(|field| retyped(field, text));
    let fields = fields.collect::<Result<_, _>>()?;
    let root = Type::group_type_builder(root.name()).with_fields(fields).build()?;
    Ok(SchemaDescriptor::new(Arc::new(root)))
}

fn retyped(field: &TypePtr, text: Option<&LogicalType>) -> Result<TypePtr, Fault> {
    let info = field.get_basic_info();
    let id = info.has_id().then(|| info.id());
    match &**field {
        Type::PrimitiveType { physical_type: PhysicalType::BYTE_ARRAY, .. } if is_text(info) => {
            let bytes = Type::primitive_type_builder(info.name(), PhysicalType::BYTE_ARRAY)
                .with_repetition(info.repetition())
                .with_logical_type(text.cloned())
                .with_id(id);
            Ok(Arc::new(bytes.build()?))
        }
        Type::PrimitiveType { .. } => Ok(Arc::clone(field)),
        Type::GroupType { fields, .. } => {
            let fields = fields.iter().map(|field| retyped(field, text));
            let group = Type::group_type_builder(info.name())
                .with_repetition(info.repetition())
                .with_converted_type(info.converted_type())
                .with_logical_type(info.logical_type_ref().cloned())
                .with_fields(fields.collect::<Result<_, _>>()?)
                .with_id(id);
            Ok(Arc::new(group.build()?))
        }
    }
}

/// Whether the bytes of a column are a string.
pub(super) fn is_text(info: &BasicTypeInfo) -> bool {
    match info.logical_type_ref() {
        Some(logical) => {
            matches!(logical, LogicalType::String | LogicalType::Json | LogicalType::Enum)
        }
        None => {
            let text = [ConvertedType::UTF8, ConvertedType::JSON, ConvertedType::ENUM];
            text.contains(&info.converted_type())
        }
    }
}

/// `array`, which was read as bytes, with strings where `shown` has them.
pub(super) fn as_text(array: &ArrayRef, shown: &DataType) -> Result<ArrayRef, Fault> {
    if array.data_type() == shown {
        return Ok(Arc::clone(array));
    }
    Ok(match shown {
        DataType::Utf8View => Arc::new(strings(array)?),
        DataType::Utf8 => {
            let strings = strings(array)?;
            Arc::new(strings.iter().collect::<arrow_array::StringArray>())
        }
        DataType::List(element) => {
            let list = array.as_list_opt::<i32>().ok_or_else(|| unlike(array, shown))?;
            let values = as_text(list.values(), element.data_type())?;
            let (offsets, nulls) = (list.offsets().clone(), list.nulls().cloned());
            Arc::new(ListArray::try_new(Arc::clone(element), offsets, values, nulls)?)
        }
        DataType::Struct(fields) => Arc::new(structs(array, fields, shown)?),
        DataType::Map(entries, ordered) => {
            let map = array.as_map_opt().ok_or_else(|| unlike(array, shown))?;
            let inner: ArrayRef = Arc::new(map.entries().clone());
            let DataType::Struct(fields) = entries.data_type() else {
                return Err(unlike(array, shown));
            };
            let inner = structs(&inner, fields, entries.data_type())?;
            let (offsets, nulls) = (map.offsets().clone(), map.nulls().cloned());
            Arc::new(MapArray::try_new(Arc::clone(entries), offsets, inner, nulls, *ordered)?)
        }
        _ => return Err(unlike(array, shown)),
    })
}

fn unlike(array: &ArrayRef, shown: &DataType) -> Fault {
    Fault::Corrupt(format!("a column was read as {}, expected {shown}", array.data_type()))
}

fn structs(array: &ArrayRef, fields: &[FieldRef], shown: &DataType) -> Result<StructArray, Fault> {
    let array = array.as_struct_opt().ok_or_else(|| unlike(array, shown))?;
    let columns = array.columns().iter().zip(fields);
    let columns = columns.map(|(column, field)| as_text(column, field.data_type()));
    let columns = columns.collect::<Result<_, _>>()?;
    let nulls = array.nulls().cloned();
    Ok(StructArray::try_new_with_length(fields.into(), columns, nulls, array.len())?)
}

/// Bytes as strings, without copying them if they are.
fn strings(array: &ArrayRef) -> Result<StringViewArray, Fault> {
    if let Some(bytes) = array.as_binary_view_opt() {
        if let Ok(strings) = bytes.clone().to_string_view() {
            return Ok(strings);
        }
        return Ok(lossy(bytes.iter()));
    }
    let bytes = array.as_binary_opt::<i32>();
    let bytes = bytes.ok_or_else(|| unlike(array, &DataType::Utf8View))?;
    Ok(lossy(bytes.iter()))
}

fn lossy<'a>(values: impl Iterator<Item = Option<&'a [u8]>>) -> StringViewArray {
    let mut strings = StringViewBuilder::new();
    for value in values {
        strings.append_option(value.map(String::from_utf8_lossy));
    }
    strings.finish()
}
