// The methods of Python's str, list, tuple and dict.
#include <algorithm>

#include "data/jinja/characters.h"
#include "data/jinja/interpreter.h"
#include "data/jinja/text_methods.h"

namespace whit::jinja {
namespace {

using Method = Value (*)(Interpreter& in, const Value& self, const Call& call);

struct Row {
  Type type;
  const char* name;
  Method body;           // null: not supported
  bool changes = false;  // the value itself: the sandbox hides it
};

Value index_of(Interpreter& in, const Value& self, const Call& call) {
  const Arguments given(in, "index", call, {""}, 1);
  const Values& items = self.list().items;
  for (size_t i = 0; i < items.size(); ++i) {
    in.meter().step();
    if (equal(items[i], given[0])) return static_cast<int64_t>(i);
  }
  in.fail("index(): the value is not in the list");
}

Value count_of(Interpreter& in, const Value& self, const Call& call) {
  const Arguments given(in, "count", call, {""}, 1);
  in.meter().step(self.list().items.size());
  return static_cast<int64_t>(std::count_if(self.list().items.begin(), self.list().items.end(),
                                            [&](const Value& item) { return equal(item, given[0]); }));
}

Value copy_list(Interpreter& in, const Value& self, const Call& call) {
  const Arguments given(in, "copy", call, {});
  return in.list(self.list().items);
}

Value get(Interpreter& in, const Value& self, const Call& call) {
  const Arguments given(in, "get", call, {"", ""}, 1);
  if (!hashable(given[0])) in.fail(std::string("unhashable type: '") + given[0].type_name() + "'");
  const Value* found = self.dict().find(given[0]);
  return found ? *found : given.get(1, Value());
}

template <ListKind kKind>
Value view(Interpreter& in, const Value& self, const Call& call) {
  const Arguments given(in, "a view of a dict", call, {});
  Values values;
  for (const auto& [key, value] : self.dict().entries) {
    if (kKind == ListKind::items)
      values.push_back(in.list({key, value}, ListKind::tuple));
    else
      values.push_back(kKind == ListKind::keys ? key : value);
  }
  return in.list(std::move(values), kKind);
}

Value copy_dict(Interpreter& in, const Value& self, const Call& call) {
  const Arguments given(in, "copy", call, {});
  return in.dict(self.dict().entries);
}

constexpr Row kRows[] = {
    {Type::list, "append", nullptr, true},
    {Type::list, "clear", nullptr, true},
    {Type::list, "copy", copy_list},
    {Type::list, "count", count_of},
    {Type::list, "extend", nullptr, true},
    {Type::list, "index", index_of},
    {Type::list, "insert", nullptr, true},
    {Type::list, "pop", nullptr, true},
    {Type::list, "remove", nullptr, true},
    {Type::list, "reverse", nullptr, true},
    {Type::list, "sort", nullptr, true},
    {Type::dict, "clear", nullptr, true},
    {Type::dict, "copy", copy_dict},
    {Type::dict, "fromkeys", nullptr},
    {Type::dict, "get", get},
    {Type::dict, "items", view<ListKind::items>},
    {Type::dict, "keys", view<ListKind::keys>},
    {Type::dict, "pop", nullptr, true},
    {Type::dict, "popitem", nullptr, true},
    {Type::dict, "setdefault", nullptr, true},
    {Type::dict, "update", nullptr, true},
    {Type::dict, "values", view<ListKind::values>},
    {Type::text, "capitalize", text_methods::capitalize},
    {Type::text, "casefold", nullptr},
    {Type::text, "center", text_methods::center},
    {Type::text, "count", text_methods::count},
    {Type::text, "encode", nullptr},
    {Type::text, "endswith", text_methods::ends_with},
    {Type::text, "expandtabs", nullptr},
    {Type::text, "find", text_methods::find},
    {Type::text, "format", text_methods::format},
    {Type::text, "format_map", nullptr},
    {Type::text, "index", text_methods::index},
    {Type::text, "isalnum", text_methods::is_alnum},
    {Type::text, "isalpha", text_methods::is_alpha},
    {Type::text, "isascii", text_methods::is_ascii},
    {Type::text, "isdecimal", text_methods::is_decimal},
    {Type::text, "isdigit", text_methods::is_digit},
    {Type::text, "isidentifier", nullptr},
    {Type::text, "islower", text_methods::is_lower},
    {Type::text, "isnumeric", text_methods::is_digit},
    {Type::text, "isprintable", nullptr},
    {Type::text, "isspace", text_methods::is_space},
    {Type::text, "istitle", nullptr},
    {Type::text, "isupper", text_methods::is_upper},
    {Type::text, "join", text_methods::join},
    {Type::text, "ljust", text_methods::ljust},
    {Type::text, "lower", text_methods::lower},
    {Type::text, "lstrip", text_methods::lstrip},
    {Type::text, "maketrans", nullptr},
    {Type::text, "partition", text_methods::partition},
    {Type::text, "removeprefix", text_methods::remove_prefix},
    {Type::text, "removesuffix", text_methods::remove_suffix},
    {Type::text, "replace", text_methods::replace},
    {Type::text, "rfind", text_methods::rfind},
    {Type::text, "rindex", text_methods::rindex},
    {Type::text, "rjust", text_methods::rjust},
    {Type::text, "rpartition", text_methods::rpartition},
    {Type::text, "rsplit", text_methods::rsplit},
    {Type::text, "rstrip", text_methods::rstrip},
    {Type::text, "split", text_methods::split},
    {Type::text, "splitlines", text_methods::split_lines},
    {Type::text, "startswith", text_methods::starts_with},
    {Type::text, "strip", text_methods::strip},
    {Type::text, "swapcase", nullptr},
    {Type::text, "title", text_methods::title},
    {Type::text, "translate", nullptr},
    {Type::text, "upper", text_methods::upper},
    {Type::text, "zfill", text_methods::zfill},
};

// Attributes of other types, which no template needs.
bool is_known_elsewhere(const Value& object, const std::string& name) {
  const auto among = [&](std::initializer_list<const char*> names) {
    return std::any_of(names.begin(), names.end(), [&](const char* known) { return name == known; });
  };
  if (object.is_whole())
    return among({"as_integer_ratio", "bit_count", "bit_length", "conjugate", "denominator", "from_bytes", "imag",
                  "numerator", "real", "to_bytes"});
  if (object.is(Type::real))
    return among({"as_integer_ratio", "conjugate", "fromhex", "hex", "imag", "is_integer", "real"});
  if (object.is(Type::object)) {
    const std::string type = object.type_name();
    if (type == "Macro")
      return among({"name", "arguments", "catch_kwargs", "catch_varargs", "caller", "explicit_caller"});
    if (type == "generator")
      return among({"close", "gi_code", "gi_frame", "gi_running", "gi_yieldfrom", "send", "throw"});
  }
  return object.is(Type::list) && among({"isdisjoint", "mapping", "start", "stop", "step"});
}

}  // namespace

Value method(Interpreter& in, const Value& object, const std::string& name, bool& there) {
  there = true;
  const bool group = object.is_list(ListKind::group);
  if (group && name == "grouper") return object.list().items[0];
  if (group && name == "list") return object.list().items[1];
  const bool tuple = group || object.is_list(ListKind::tuple) || object.is_list(ListKind::range);
  const bool view = object.is(Type::list) && !tuple && !object.is_list(ListKind::list);
  for (const Row& row : kRows) {
    if (row.type != object.type() || name != row.name || view) continue;
    if (tuple && row.body != count_of && row.body != index_of) continue;
    if (row.changes)
      return Value::undefined("access to attribute '" + name + "' of '" + object.type_name() + "' object is unsafe.");
    return in.function(
        name,
        [self = object, &row](Interpreter& user, const Call& call) {
          if (!row.body) user.refuse(std::string("the method '") + row.name + "' of " + self.type_name());
          return row.body(user, self, call);
        },
        object.depth());
  }
  if (const auto cycler = object.object_as<Cycler>()) return cycler->attribute(in, name, there);
  if (is_known_elsewhere(object, name)) in.refuse("the attribute '" + name + "' of " + object.type_name());
  there = false;
  return {};
}

}  // namespace whit::jinja
