// Values of the template language: what Python's None, bool, int, float, str, list, tuple, dict and a few objects are
// to a template. All but namespaces, iterators and loops are immutable, as the sandbox has it.
#pragma once

#include <exception>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "data/jinja/meter.h"

namespace whit::jinja {

struct Text;
struct List;
struct Dict;
struct Object;
struct None {};

enum class Type { none, undefined, boolean, integer, real, text, list, dict, object };
enum class ListKind { list, tuple, range, keys, values, items, group };

class Value {
 public:
  using Undefined = std::shared_ptr<const std::string>;  // why it is undefined

  Value() = default;  // None
  Value(bool value) : data_(value) {}
  Value(int64_t value) : data_(value) {}
  Value(double value) : data_(value) {}
  Value(const void*) = delete;
  Value(std::shared_ptr<const Text> value) : data_(std::move(value)) {}
  Value(std::shared_ptr<const List> value) : data_(std::move(value)) {}
  Value(std::shared_ptr<const Dict> value) : data_(std::move(value)) {}
  Value(std::shared_ptr<Object> value) : data_(std::move(value)) {}
  static Value undefined(std::string why);
  static Value constant(std::string text);  // of the template or of this program: charged to nobody

  Type type() const noexcept { return static_cast<Type>(data_.index()); }
  bool is(Type type) const noexcept { return this->type() == type; }
  bool is_undefined() const noexcept { return is(Type::undefined); }
  bool is_text() const noexcept { return is(Type::text); }
  bool is_list(ListKind kind) const noexcept;
  bool is_number() const noexcept { return is(Type::boolean) || is(Type::integer) || is(Type::real); }
  bool is_whole() const noexcept { return is(Type::boolean) || is(Type::integer); }  // Python's int, bool among them

  const std::string& why() const { return *std::get<Undefined>(data_); }
  int64_t whole() const { return is(Type::boolean) ? std::get<bool>(data_) : std::get<int64_t>(data_); }
  double real() const { return is(Type::real) ? std::get<double>(data_) : static_cast<double>(whole()); }
  const Text& text() const { return *std::get<std::shared_ptr<const Text>>(data_); }
  const std::string& bytes() const;
  const List& list() const { return *std::get<std::shared_ptr<const List>>(data_); }
  const Dict& dict() const { return *std::get<std::shared_ptr<const Dict>>(data_); }
  const std::shared_ptr<Object>& object() const { return std::get<std::shared_ptr<Object>>(data_); }
  template <class Kind>
  std::shared_ptr<Kind> object_as() const {
    return is(Type::object) ? std::dynamic_pointer_cast<Kind>(object()) : nullptr;
  }
  // The same object, as Python's `is` has it. Texts are the same when equal.
  bool same_as(const Value& other) const noexcept;
  int depth() const noexcept;  // of nested lists, dicts and iterators
  bool truth() const noexcept;
  const char* type_name() const noexcept;  // as Python calls it

 private:
  std::variant<None, Undefined, bool, int64_t, double, std::shared_ptr<const Text>, std::shared_ptr<const List>,
               std::shared_ptr<const Dict>, std::shared_ptr<Object>>
      data_;
};

using Values = std::vector<Value>;

struct Text {
  Text(std::string text, bool safe, Charge taken);
  std::string bytes;  // valid UTF-8
  bool markup;        // went through `safe` or `escape`
  bool ascii;
  Charge charge;
};

struct List {
  List(ListKind which, Values values, Charge taken);
  ListKind kind;
  Values items;
  int depth = 1;
  int64_t start = 0, stop = 0, stride = 1;  // of a range
  Charge charge;
};

struct Dict {
  explicit Dict(Charge taken) : charge(std::move(taken)) {}
  // Replaces the value of an equal key. The key is hashable (see `hashable`).
  void set(const Value& key, Value value);
  const Value* find(const Value& key) const noexcept;
  const Value* find(std::string_view key) const noexcept;

  std::vector<std::pair<Value, Value>> entries;
  int depth = 1;
  Charge charge;

 private:
  std::unordered_map<std::string_view, size_t> texts_;  // keys that are texts
  std::vector<size_t> others_;
};

struct Object {
  virtual ~Object() = default;
  virtual const char* type_name() const noexcept = 0;
  virtual int depth() const noexcept { return 0; }
};

// A generator or an iterator of Python: gives each item once. Items are made at once; an error that came up on the way
// is thrown to whoever wants more.
struct Iterator : Object {
  Iterator(Values values, std::exception_ptr failure, Charge taken);
  const char* type_name() const noexcept override { return "generator"; }
  int depth() const noexcept override { return nesting; }
  Values items;
  size_t at = 0;
  std::exception_ptr error;
  int nesting = 1;
  Charge charge;
};

struct Namespace : Object {
  explicit Namespace(Charge taken) : charge(std::move(taken)) {}
  const char* type_name() const noexcept override { return "Namespace"; }
  const Value* find(std::string_view name) const noexcept;
  void set(const std::string& name, Value value);
  std::vector<std::pair<std::string, Value>> attributes;
  Charge charge;
};

// What equal values have in common; false for lists, dicts and tuples that hold such.
bool hashable(const Value& value) noexcept;
// Python's ==. Values are nested no deeper than kDeepestValue, which bounds the recursion.
bool equal(const Value& a, const Value& b) noexcept;
constexpr int kDeepestValue = 100;

// JSON as Python's json.loads gives it. Throws for what is nested too deeply and for integers beyond 64 bits.
Value from_json(const nlohmann::ordered_json& json, Meter& meter, int depth = 0);

}  // namespace whit::jinja
