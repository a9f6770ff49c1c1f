// The tests of jinja2.
#include <algorithm>

#include "data/jinja/characters.h"
#include "data/jinja/interpreter.h"

namespace whit::jinja {
namespace {

using Test = bool (*)(Interpreter& in, const Value& value, const Call& call);

void nothing_more(Interpreter& in, const Call& call) { const Arguments none(in, "a test", call, {}); }

Value modulo(Interpreter& in, const Value& value, const Value& by) { return in.binary(Operator::mod, value, by); }

template <Type kType>
bool is_type(Interpreter& in, const Value& value, const Call& call) {
  nothing_more(in, call);
  return value.is(kType);
}

template <int kRest>
bool is_rest(Interpreter& in, const Value& value, const Call& call) {
  nothing_more(in, call);
  return equal(modulo(in, value, int64_t{2}), int64_t{kRest});
}

template <bool kValue>
bool is_truth(Interpreter& in, const Value& value, const Call& call) {
  nothing_more(in, call);
  return value.is(Type::boolean) && value.truth() == kValue;
}

template <Operator kOperator>
bool compares(Interpreter& in, const Value& value, const Call& call) {
  const Arguments given(in, "a comparison", call, {""}, 1);
  return in.compare(kOperator, value, given[0]);
}

bool is_in(Interpreter& in, const Value& value, const Call& call) {
  const Arguments given(in, "in", call, {"seq"}, 1);
  return in.contains(given[0], value);
}

bool divisible(Interpreter& in, const Value& value, const Call& call) {
  const Arguments given(in, "divisibleby", call, {"num"}, 1);
  return equal(modulo(in, value, given[0]), int64_t{0});
}

bool same(Interpreter& in, const Value& value, const Call& call) {
  const Arguments given(in, "sameas", call, {"other"}, 1);
  if (value.is_text() && given[0].is_text()) in.refuse("the test 'sameas' of strings");
  return value.same_as(given[0]);
}

bool defined(Interpreter& in, const Value& value, const Call& call) {
  nothing_more(in, call);
  return !value.is_undefined();
}

bool number(Interpreter& in, const Value& value, const Call& call) {
  nothing_more(in, call);
  return value.is_number();
}

// What has a length and can be indexed, as Python sees it.
bool sequence(Interpreter& in, const Value& value, const Call& call) {
  nothing_more(in, call);
  if (value.is(Type::list)) return value.list().kind <= ListKind::range || value.list().kind == ListKind::group;
  return value.is_text() || value.is(Type::dict) || value.is_undefined();
}

bool iterable(Interpreter& in, const Value& value, const Call& call) {
  nothing_more(in, call);
  return value.is_text() || value.is(Type::list) || value.is(Type::dict) || value.is_undefined() ||
         value.object_as<Iterator>();
}

bool is_callable(Interpreter& in, const Value& value, const Call& call) {
  nothing_more(in, call);
  return value.is_undefined() || value.object_as<Callable>();
}

template <bool kUpper>
bool cased(Interpreter& in, const Value& value, const Call& call) {
  nothing_more(in, call);
  const std::string text = in.str(value);
  in.meter().touch(text.size());
  return all_cased(text, kUpper);
}

bool names_filter(Interpreter& in, const Value& value, const Call& call) {
  nothing_more(in, call);
  return value.is_text() && is_filter(value.bytes());
}

bool names_test(Interpreter& in, const Value& value, const Call& call) {
  nothing_more(in, call);
  return value.is_text() && is_test(value.bytes());
}

bool escaped(Interpreter& in, const Value& value, const Call& call) {
  nothing_more(in, call);
  return value.is_text() && value.text().markup;
}

const std::pair<const char*, Test> kTests[] = {
    {"odd", is_rest<1>},
    {"even", is_rest<0>},
    {"divisibleby", divisible},
    {"defined", defined},
    {"undefined", is_type<Type::undefined>},
    {"filter", names_filter},
    {"test", names_test},
    {"none", is_type<Type::none>},
    {"boolean", is_type<Type::boolean>},
    {"false", is_truth<false>},
    {"true", is_truth<true>},
    {"integer", is_type<Type::integer>},
    {"float", is_type<Type::real>},
    {"lower", cased<false>},
    {"upper", cased<true>},
    {"string", is_type<Type::text>},
    {"mapping", is_type<Type::dict>},
    {"number", number},
    {"sequence", sequence},
    {"iterable", iterable},
    {"callable", is_callable},
    {"sameas", same},
    {"escaped", escaped},
    {"in", is_in},
    {"==", compares<Operator::eq>},
    {"eq", compares<Operator::eq>},
    {"equalto", compares<Operator::eq>},
    {"!=", compares<Operator::ne>},
    {"ne", compares<Operator::ne>},
    {">", compares<Operator::gt>},
    {"gt", compares<Operator::gt>},
    {"greaterthan", compares<Operator::gt>},
    {">=", compares<Operator::gteq>},
    {"ge", compares<Operator::gteq>},
    {"<", compares<Operator::lt>},
    {"lt", compares<Operator::lt>},
    {"lessthan", compares<Operator::lt>},
    {"<=", compares<Operator::lteq>},
    {"le", compares<Operator::lteq>},
};

Test find_test(const std::string& name) noexcept {
  const auto* found =
      std::find_if(std::begin(kTests), std::end(kTests), [&](const auto& row) { return name == row.first; });
  return found == std::end(kTests) ? nullptr : found->second;
}

}  // namespace

bool is_test(const std::string& name) noexcept { return find_test(name) != nullptr; }

bool Interpreter::test(const std::string& name, const Value& value, const Call& call) {
  const Test found = find_test(name);
  if (!found) fail("No test named '" + name + "'.");
  return found(*this, value, call);
}

}  // namespace whit::jinja
