#include "data/jinja/value.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace whit::jinja {

std::string template_line(int line) { return "chat template, line " + std::to_string(line); }

void fail(int line, const std::string& what) {
  throw Error(ErrorKind::input, "the chat template fails", template_line(line), what);
}

void refuse(int line, const std::string& name) {
  throw Error(ErrorKind::input, "the chat template uses what is not supported", template_line(line), name);
}

Value Value::undefined(std::string why) {
  Value value;
  value.data_ = std::make_shared<const std::string>(std::move(why));
  return value;
}

Value Value::constant(std::string text) { return std::make_shared<const Text>(std::move(text), false, Charge()); }

bool Value::is_list(ListKind kind) const noexcept { return is(Type::list) && list().kind == kind; }

const std::string& Value::bytes() const { return text().bytes; }

bool Value::same_as(const Value& other) const noexcept {
  if (type() != other.type()) return false;
  switch (type()) {
    case Type::list:
      return &list() == &other.list();
    case Type::dict:
      return &dict() == &other.dict();
    case Type::object:
      return object() == other.object();
    case Type::undefined:
      return &why() == &other.why();
    default:
      return equal(*this, other);
  }
}

int Value::depth() const noexcept {
  if (is(Type::list)) return list().depth;
  if (is(Type::dict)) return dict().depth;
  return is(Type::object) ? object()->depth() : 0;
}

bool Value::truth() const noexcept {
  switch (type()) {
    case Type::none:
    case Type::undefined:
      return false;
    case Type::boolean:
    case Type::integer:
      return whole() != 0;
    case Type::real:
      return real() != 0;
    case Type::text:
      return !bytes().empty();
    case Type::list:
      return !list().items.empty();
    case Type::dict:
      return !dict().entries.empty();
    case Type::object:
      return true;
  }
  return false;
}

const char* Value::type_name() const noexcept {
  switch (type()) {
    case Type::none:
      return "NoneType";
    case Type::undefined:
      return "Undefined";
    case Type::boolean:
      return "bool";
    case Type::integer:
      return "int";
    case Type::real:
      return "float";
    case Type::text:
      return "str";
    case Type::dict:
      return "dict";
    case Type::object:
      return object()->type_name();
    case Type::list:
      switch (list().kind) {
        case ListKind::list:
          return "list";
        case ListKind::tuple:
        case ListKind::group:
          return "tuple";
        case ListKind::range:
          return "range";
        case ListKind::keys:
          return "dict_keys";
        case ListKind::values:
          return "dict_values";
        case ListKind::items:
          return "dict_items";
      }
  }
  return "";
}

Text::Text(std::string text, bool safe, Charge taken)
    : bytes(std::move(text)),
      markup(safe),
      ascii(std::none_of(bytes.begin(), bytes.end(), [](char c) { return static_cast<unsigned char>(c) >= 0x80; })),
      charge(std::move(taken)) {}

List::List(ListKind which, Values values, Charge taken)
    : kind(which), items(std::move(values)), charge(std::move(taken)) {
  for (const Value& item : items) depth = std::max(depth, item.depth() + 1);
}

Iterator::Iterator(Values values, std::exception_ptr failure, Charge taken)
    : items(std::move(values)), error(std::move(failure)), charge(std::move(taken)) {
  for (const Value& item : items) nesting = std::max(nesting, item.depth() + 1);
}

void Dict::set(const Value& key, Value value) {
  depth = std::max({depth, key.depth() + 1, value.depth() + 1});
  if (const Value* there = find(key)) {
    const_cast<Value&>(*there) = std::move(value);  // of this very dict, which is being made
    return;
  }
  entries.emplace_back(key, std::move(value));
  if (key.is_text())
    texts_.emplace(entries.back().first.bytes(), entries.size() - 1);
  else
    others_.push_back(entries.size() - 1);
}

const Value* Dict::find(std::string_view key) const noexcept {
  const auto found = texts_.find(key);
  return found == texts_.end() ? nullptr : &entries[found->second].second;
}

const Value* Dict::find(const Value& key) const noexcept {
  if (key.is_text()) return find(key.bytes());
  for (const size_t at : others_)
    if (equal(entries[at].first, key)) return &entries[at].second;
  return nullptr;
}

const Value* Namespace::find(std::string_view name) const noexcept {
  for (const auto& [key, value] : attributes)
    if (key == name) return &value;
  return nullptr;
}

void Namespace::set(const std::string& name, Value value) {
  if (const Value* there = find(name))
    const_cast<Value&>(*there) = std::move(value);  // of this very namespace
  else
    attributes.emplace_back(name, std::move(value));
}

bool hashable(const Value& value) noexcept {
  if (value.is(Type::dict)) return false;
  if (!value.is(Type::list)) return true;
  const List& list = value.list();
  if (list.kind == ListKind::range) return true;
  return (list.kind == ListKind::tuple || list.kind == ListKind::group) &&
         std::all_of(list.items.begin(), list.items.end(), hashable);
}

bool equal(const Value& a, const Value& b) noexcept {
  if (a.is_number() && b.is_number()) {
    if (a.is_whole() && b.is_whole()) return a.whole() == b.whole();
    if (a.is(Type::real) && b.is(Type::real)) return a.real() == b.real();
    const double real = a.is(Type::real) ? a.real() : b.real();
    const int64_t whole = a.is(Type::real) ? b.whole() : a.whole();
    // Exact, as Python compares: a double at the bounds of 64 bits is no int64_t.
    return std::floor(real) == real && std::abs(real) < 9.2e18 && static_cast<int64_t>(real) == whole;
  }
  if (a.type() != b.type()) return false;
  switch (a.type()) {
    case Type::none:
    case Type::undefined:
      return true;
    case Type::text:
      return a.bytes() == b.bytes();
    case Type::list: {
      const auto kind = [](const Value& v) {
        return v.list().kind == ListKind::group ? ListKind::tuple : v.list().kind;
      };
      if (kind(a) != kind(b)) return false;
      if (kind(a) == ListKind::values) return &a.list() == &b.list();
      const Values &x = a.list().items, &y = b.list().items;
      return x.size() == y.size() && std::equal(x.begin(), x.end(), y.begin(), equal);
    }
    case Type::dict: {
      const Dict &x = a.dict(), &y = b.dict();
      return x.entries.size() == y.entries.size() &&
             std::all_of(x.entries.begin(), x.entries.end(), [&](const auto& entry) {
               const Value* other = y.find(entry.first);
               return other && equal(entry.second, *other);
             });
    }
    default:
      return a.same_as(b);
  }
}

Value from_json(const nlohmann::ordered_json& json, Meter& meter, int depth) {
  if (depth > kDeepestValue / 2)
    throw Error(ErrorKind::input, "a value for the chat template is nested too deeply", "", {},
                "at most " + std::to_string(kDeepestValue / 2) + " levels are read");
  switch (json.type()) {
    case nlohmann::ordered_json::value_t::boolean:
      return json.get<bool>();
    case nlohmann::ordered_json::value_t::number_integer:
      return json.get<int64_t>();
    case nlohmann::ordered_json::value_t::number_unsigned:
      if (json.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX))
        throw Error(ErrorKind::input, "a number for the chat template has more than 64 bits", "", json.dump());
      return json.get<int64_t>();
    case nlohmann::ordered_json::value_t::number_float: {
      // The parser makes a double of an integer that is too large, and Python would not.
      const double real = json.get<double>();
      if (std::abs(real) >= 9.2e18 && std::isfinite(real))
        throw Error(ErrorKind::input, "a number for the chat template has more than 64 bits", "", json.dump());
      return real;
    }
    case nlohmann::ordered_json::value_t::string: {
      const auto& text = json.get_ref<const std::string&>();
      return std::make_shared<const Text>(text, false, Charge(meter, text.size() + 64));
    }
    case nlohmann::ordered_json::value_t::array: {
      Values items;
      for (const auto& item : json) items.push_back(from_json(item, meter, depth + 1));
      return std::make_shared<const List>(ListKind::list, std::move(items), Charge(meter, json.size() * 24 + 64));
    }
    case nlohmann::ordered_json::value_t::object: {
      const auto dict = std::make_shared<Dict>(Charge(meter, json.size() * 120 + 64));
      for (const auto& [key, value] : json.items()) {
        const Value name = std::make_shared<const Text>(key, false, Charge(meter, key.size() + 64));
        dict->set(name, from_json(value, meter, depth + 1));
      }
      return std::shared_ptr<const Dict>(dict);
    }
    default:
      return Value();
  }
}

}  // namespace whit::jinja
