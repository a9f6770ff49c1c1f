// Operators, as Python has them.
#include <algorithm>
#include <cmath>

#include "data/jinja/characters.h"
#include "data/jinja/interpreter.h"

namespace whit::jinja {
namespace {

const char* symbol_of(Operator op) {
  constexpr const char* kSymbols[] = {
      "+", "-", "*", "/", "//", "%", "**", "==", "!=", "<", "<=", ">", ">=", "in", "not in"};
  return kSymbols[static_cast<int>(op)];
}

bool is_sequence(const Value& value, ListKind kind) {
  return value.is_list(kind) || (kind == ListKind::tuple && value.is_list(ListKind::group));
}

int64_t floor_division(int64_t a, int64_t b) {
  const int64_t quotient = a / b;
  return quotient - (a % b != 0 && ((a < 0) != (b < 0)) ? 1 : 0);
}

double real_modulo(double a, double b) {
  const double rest = std::fmod(a, b);
  if (rest == 0) return std::copysign(0.0, b);
  return (rest < 0) != (b < 0) ? rest + b : rest;
}

double real_floor_division(double a, double b) {
  const double rest = std::fmod(a, b);
  double quotient = (a - rest) / b;
  if (rest != 0 && (rest < 0) != (b < 0)) quotient -= 1;
  if (quotient == 0) return std::copysign(0.0, a / b);
  const double whole = std::floor(quotient);
  return quotient - whole > 0.5 ? whole + 1 : whole;
}

}  // namespace

Value Interpreter::arithmetic(Operator op, const Value& a, const Value& b) {
  if (a.is_whole() && b.is_whole() && op != Operator::div) {
    const int64_t x = a.whole(), y = b.whole();
    int64_t result = 0;
    bool beyond = false;
    switch (op) {
      case Operator::add:
        beyond = __builtin_add_overflow(x, y, &result);
        break;
      case Operator::sub:
        beyond = __builtin_sub_overflow(x, y, &result);
        break;
      case Operator::mul:
        beyond = __builtin_mul_overflow(x, y, &result);
        break;
      case Operator::pow:
        if (y < 0) {
          if (x == 0) fail("0.0 cannot be raised to a negative power");
          return std::pow(static_cast<double>(x), static_cast<double>(y));
        }
        result = 1;
        if (x == 0 || x == 1) return y == 0 ? int64_t{1} : x;
        if (x == -1) return y % 2 ? int64_t{-1} : int64_t{1};
        for (int64_t i = 0; i < y && !beyond; ++i) beyond = __builtin_mul_overflow(result, x, &result);
        break;
      default:
        if (y == 0) fail("integer division or modulo by zero");
        if (y == -1)
          beyond = op == Operator::floordiv && __builtin_sub_overflow(int64_t{0}, x, &result);
        else
          result = op == Operator::floordiv ? floor_division(x, y) : x - floor_division(x, y) * y;
    }
    if (beyond) refuse("an integer of more than 64 bits");
    return result;
  }
  const double x = a.real(), y = b.real();
  switch (op) {
    case Operator::add:
      return x + y;
    case Operator::sub:
      return x - y;
    case Operator::mul:
      return x * y;
    case Operator::pow: {
      if (x == 0 && y < 0) fail("0.0 cannot be raised to a negative power");
      if (x < 0 && std::floor(y) != y) refuse("a complex number");
      const double result = std::pow(x, y);
      if (std::isinf(result) && std::isfinite(x) && std::isfinite(y)) fail("a number that is too large");
      return result;
    }
    default:
      if (y == 0) fail("division by zero");
      // Python divides long integers exactly before it rounds.
      if (op == Operator::div && a.is_whole() && b.is_whole() &&
          (std::abs(x) > 9007199254740992.0 || std::abs(y) > 9007199254740992.0))
        refuse("a quotient of integers beyond 53 bits");
      return op == Operator::div ? x / y : op == Operator::mod ? real_modulo(x, y) : real_floor_division(x, y);
  }
}

Value Interpreter::binary(Operator op, const Value& a, const Value& b) {
  // A format takes whatever its right side is, undefined values too.
  if (op == Operator::mod && a.is_text()) return text(percent_format(*this, text_of(a, "%"), b));
  for (const Value* side : {&a, &b})
    if (side->is_undefined()) fail(side->why());
  if (a.is_number() && b.is_number()) return arithmetic(op, a, b);
  if (op == Operator::add) {
    if (a.is_text() && b.is_text()) {
      // A text that is marked as safe escapes the other.
      if (!a.text().markup && !b.text().markup) return text(a.bytes() + b.bytes());
      const auto safe = [](const Value& v) { return v.text().markup ? v.bytes() : html_escaped(v.bytes()); };
      return text(safe(a) + safe(b), true);
    }
    for (const ListKind kind : {ListKind::list, ListKind::tuple}) {
      if (!is_sequence(a, kind) || !is_sequence(b, kind)) continue;
      Values values = a.list().items;
      values.insert(values.end(), b.list().items.begin(), b.list().items.end());
      return list(std::move(values), kind);
    }
  }
  if (op == Operator::mul && (a.is_whole() || b.is_whole())) {
    const Value &what = a.is_whole() ? b : a, &count = a.is_whole() ? a : b;
    const int64_t times = std::max<int64_t>(0, count.whole());
    const bool repeats = is_sequence(what, ListKind::list) || is_sequence(what, ListKind::tuple);
    if (what.is_text() || repeats) {
      const uint64_t size = what.is_text() ? text_of(what, "*").size() : what.list().items.size() * sizeof(Value);
      if (size && static_cast<uint64_t>(times) > meter_.limits().bytes / size)
        refuse("more than " + std::to_string(meter_.limits().bytes) + " bytes of values");
      meter_.touch(size * static_cast<uint64_t>(times));
      const Charge beforehand(meter_, size * static_cast<uint64_t>(times));
      if (what.is_text()) {
        std::string out;
        if (size)
          for (int64_t i = 0; i < times; ++i) out += what.bytes();
        return text(std::move(out));
      }
      Values values;
      if (size)
        for (int64_t i = 0; i < times; ++i)
          values.insert(values.end(), what.list().items.begin(), what.list().items.end());
      return list(std::move(values), what.is_list(ListKind::list) ? ListKind::list : ListKind::tuple);
    }
  }
  fail(std::string("unsupported operand type(s) for ") + symbol_of(op) + ": '" + a.type_name() + "' and '" +
       b.type_name() + "'");
}

Value Interpreter::sign(const Value& value, bool negative) {
  if (value.is_undefined()) fail(value.why());
  if (!value.is_number()) fail(std::string("bad operand type for a sign: '") + value.type_name() + "'");
  if (value.is(Type::real)) return negative ? -value.real() : value.real();
  if (value.whole() == INT64_MIN && negative) refuse("an integer of more than 64 bits");
  return negative ? -value.whole() : value.whole();
}

bool Interpreter::less(const Value& a, const Value& b) {
  meter_.step();
  for (const Value* side : {&a, &b})
    if (side->is_undefined()) fail(side->why());
  if (a.is_number() && b.is_number()) {
    if (a.is_whole() && b.is_whole()) return a.whole() < b.whole();
    for (const Value* side : {&a, &b})
      if (side->is_whole() && std::abs(side->real()) > 9007199254740992.0)
        refuse("a comparison of an integer beyond 53 bits with a float");
    return a.real() < b.real();
  }
  if (a.is_text() && b.is_text()) return a.bytes() < b.bytes();  // UTF-8 sorts as code points do
  for (const ListKind kind : {ListKind::list, ListKind::tuple}) {
    if (!is_sequence(a, kind) || !is_sequence(b, kind)) continue;
    const Values &x = a.list().items, &y = b.list().items;
    for (size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
      meter_.step();
      if (!equal(x[i], y[i])) return less(x[i], y[i]);
    }
    return x.size() < y.size();
  }
  fail(std::string("'<' not supported between instances of '") + a.type_name() + "' and '" + b.type_name() + "'");
}

bool Interpreter::compare(Operator op, const Value& a, const Value& b) {
  switch (op) {
    case Operator::eq:
    case Operator::ne:
      for (const Value* side : {&a, &b}) {
        meter_.touch(side->is_text() ? side->bytes().size() : 0);
        if (side->is(Type::list)) {
          meter_.step(side->list().items.size());
          const ListKind kind = side->list().kind;
          if (kind == ListKind::keys || kind == ListKind::items) refuse("a comparison of a dict's keys or items");
        }
        if (side->is(Type::dict)) meter_.step(side->dict().entries.size());
      }
      return equal(a, b) == (op == Operator::eq);
    case Operator::in:
      return contains(b, a);
    case Operator::notin:
      return !contains(b, a);
    case Operator::lt:
      return less(a, b);
    case Operator::gt:
      return less(b, a);
    default: {
      // Not the opposite of > for what is no number.
      const Value &x = op == Operator::lteq ? a : b, &y = op == Operator::lteq ? b : a;
      if (x.is_number() && y.is_number()) return less(x, y) || x.real() == y.real();
      return !less(y, x);
    }
  }
}

bool Interpreter::contains(const Value& container, const Value& item) {
  if (container.is_text()) {
    if (!item.is_text()) fail(std::string("'in <string>' requires string as left operand, not ") + item.type_name());
    meter_.touch(container.bytes().size());
    return container.bytes().find(item.bytes()) != std::string::npos;
  }
  if (container.is(Type::dict)) {
    if (!hashable(item)) fail(std::string("unhashable type: '") + item.type_name() + "'");
    if (!item.is_text()) meter_.step(container.dict().entries.size());
    return container.dict().find(item) != nullptr;
  }
  const Values values = items(container);
  return std::any_of(values.begin(), values.end(), [&](const Value& value) {
    meter_.step();
    return equal(value, item);
  });
}

int64_t Interpreter::length(const Value& value) {
  switch (value.type()) {
    case Type::undefined:
      return 0;
    case Type::text:
      meter_.touch(value.bytes().size());
      return length_of(value.text());
    case Type::list:
      return static_cast<int64_t>(value.list().items.size());
    case Type::dict:
      return static_cast<int64_t>(value.dict().entries.size());
    default:
      fail(std::string("object of type '") + value.type_name() + "' has no len()");
  }
}

Values Interpreter::items(const Value& value) {
  switch (value.type()) {
    case Type::undefined:
      return {};
    case Type::list:
      meter_.step(value.list().items.size() / 4);
      return value.list().items;
    case Type::text: {
      Values values;
      meter_.step(value.bytes().size());
      for (const std::string_view point : points_of(value.bytes())) values.push_back(text(std::string(point)));
      return values;
    }
    case Type::dict: {
      Values values;
      meter_.step(value.dict().entries.size() / 4);
      for (const auto& entry : value.dict().entries) values.push_back(entry.first);
      return values;
    }
    default:
      break;
  }
  const auto iterator = value.object_as<Iterator>();
  if (!iterator) fail(std::string("'") + value.type_name() + "' object is not iterable");
  if (iterator->error) std::rethrow_exception(iterator->error);
  Values values(iterator->items.begin() + static_cast<ptrdiff_t>(iterator->at), iterator->items.end());
  iterator->at = iterator->items.size();
  return values;
}

namespace {

// Python's slice.indices: the first index, the bound and the step over `length` items.
struct Range {
  int64_t start, stop, step;
};

}  // namespace

Value Interpreter::slice(const Value& object, const Value& start, const Value& stop, const Value& stride) {
  if (object.is_undefined()) fail(object.why());
  const bool list_like = object.is(Type::list) && object.list().kind <= ListKind::range;
  if (!object.is_text() && !list_like && !object.is_list(ListKind::group))
    fail(std::string("'") + object.type_name() + "' object cannot be sliced");
  for (const Value* bound : {&start, &stop, &stride}) {
    if (bound->is_undefined() || (!bound->is(Type::none) && !bound->is_whole()))
      fail("slice indices must be integers or None");
  }
  const int64_t length = this->length(object), step = stride.is(Type::none) ? 1 : stride.whole();
  if (step == 0) fail("slice step cannot be zero");
  const auto bound = [&](const Value& value, int64_t otherwise) {
    if (value.is(Type::none)) return otherwise;
    int64_t at = value.whole();
    if (at < 0) at = at < -length ? (step < 0 ? -1 : 0) : at + length;
    return std::min(at, step < 0 ? length - 1 : length);
  };
  const Range range{bound(start, step < 0 ? length - 1 : 0), bound(stop, step < 0 ? -1 : length), step};
  if (object.is_text() && step == 1) {
    const Text& whole = object.text();
    meter_.touch(whole.bytes.size());
    return text(std::string(part_of(whole, range.start, std::max(range.start, range.stop))), whole.markup);
  }
  std::vector<size_t> chosen;
  for (int64_t at = range.start; step > 0 ? at < range.stop : at > range.stop;) {
    meter_.step();
    chosen.push_back(static_cast<size_t>(at));
    if (__builtin_add_overflow(at, step, &at)) break;
  }
  if (object.is_text()) {
    const std::vector<std::string_view> points = points_of(text_of(object, "a slice"));
    meter_.step(points.size() / 4);
    std::string out;
    for (const size_t at : chosen) out += points[at];
    return text(std::move(out));
  }
  if (object.is_list(ListKind::range)) refuse("a slice of a range");
  Values values;
  for (const size_t at : chosen) values.push_back(object.list().items[at]);
  return list(std::move(values), object.is_list(ListKind::list) ? ListKind::list : ListKind::tuple);
}

}  // namespace whit::jinja
