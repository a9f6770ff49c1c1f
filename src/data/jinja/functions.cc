// The functions that a template finds: jinja2's, and what transformers adds.
#include <algorithm>

#include "base/error.h"
#include "data/jinja/interpreter.h"

namespace whit::jinja {
namespace {

constexpr uint64_t kLongestRange = 100000;  // jinja2's MAX_RANGE

Value range(Interpreter& in, const Call& call) {
  const Arguments given(in, "range", call, {"", "", ""}, 1);
  int64_t bounds[3] = {0, 0, 1};
  for (size_t i = 0; i < 3; ++i)
    if (given.has(i)) bounds[i] = in.whole_of(given[i], "range");
  if (!given.has(1)) std::swap(bounds[0], bounds[1]);
  const auto [start, stop, stride] = bounds;
  if (stride == 0) in.fail("range() arg 3 must not be zero");
  const auto lower = static_cast<uint64_t>(stride > 0 ? start : stop);
  const auto upper = static_cast<uint64_t>(stride > 0 ? stop : start);
  const bool any = stride > 0 ? start < stop : start > stop;
  const uint64_t step = stride > 0 ? static_cast<uint64_t>(stride) : uint64_t{0} - static_cast<uint64_t>(stride);
  const uint64_t count = any ? (upper - lower - 1) / step + 1 : 0;
  if (count > kLongestRange) in.fail("Range too big. The sandbox blocks ranges larger than 100000.");
  in.meter().step(count);
  Values items;
  for (uint64_t i = 0; i < count; ++i) items.push_back(start + static_cast<int64_t>(i) * stride);
  auto list = std::make_shared<List>(ListKind::range, std::move(items), Charge(in.meter(), count * sizeof(Value) + 96));
  list->start = start, list->stop = stop, list->stride = stride;
  return std::shared_ptr<const List>(std::move(list));
}

// As Python's dict(): of a dict or of pairs, and of names.
std::vector<std::pair<Value, Value>> dict_entries(Interpreter& in, const Call& call, const char* name) {
  if (call.positional.size() > 1) in.fail(std::string(name) + " expected at most 1 argument");
  std::vector<std::pair<Value, Value>> entries;
  if (!call.positional.empty()) {
    const Value& from = call.positional[0];
    if (from.is(Type::dict)) {
      entries = from.dict().entries;
    } else {
      for (const Value& pair : in.items(from)) {
        const Values parts = in.items(pair);
        if (parts.size() != 2) in.fail(std::string(name) + ": a pair of key and value is wanted");
        entries.emplace_back(parts[0], parts[1]);
      }
    }
  }
  for (const auto& [key, value] : call.named) entries.emplace_back(in.text(key), value);
  return entries;
}

Value make_dict(Interpreter& in, const Call& call) { return in.dict(dict_entries(in, call, "dict")); }

Value no_lipsum(Interpreter& in, const Call&) { in.refuse("the function 'lipsum'"); }

Value make_namespace(Interpreter& in, const Call& call) {
  const auto entries = dict_entries(in, call, "namespace");
  auto space = in.keep(std::make_shared<Namespace>(Charge(in.meter(), 256 + 128 * entries.size())));
  for (const auto& [key, value] : entries) {
    if (!key.is_text()) in.refuse("a namespace's name that is no string");
    if (key.bytes().starts_with('_')) in.fail("underscore-prefixed attribute of a namespace: " + key.bytes());
    in.meter().step(space->attributes.size() / 4);
    space->set(key.bytes(), value);
  }
  return std::shared_ptr<Object>(std::move(space));
}

Value make_cycler(Interpreter& in, const Call& call) {
  if (!call.named.empty()) in.fail("cycler() takes no keyword arguments");
  if (call.positional.empty()) in.fail("at least one item has to be provided");
  const Value items = in.list(call.positional);
  auto cycler = std::make_shared<Cycler>();
  cycler->items = call.positional;
  cycler->nesting = items.depth();
  return std::shared_ptr<Object>(std::move(cycler));
}

Value make_joiner(Interpreter& in, const Call& call) {
  const Arguments given(in, "joiner", call, {"sep"});
  const Value mark = given.get(0, Value::constant(", "));
  return in.function(
      "joiner",
      [mark, used = false](Interpreter& user, const Call& asked) mutable -> Value {
        const Arguments none(user, "joiner", asked, {});
        return std::exchange(used, true) ? mark : Value::constant("");
      },
      mark.depth());
}

Value raise_exception(Interpreter& in, const Call& call) {
  const Arguments given(in, "raise_exception", call, {"message"}, 1);
  throw Error(ErrorKind::usage, "the chat template refuses this conversation", template_line(in.meter().line),
              in.str(given[0]));
}

Value strftime_now(Interpreter& in, const Call& call) {
  const Arguments given(in, "strftime_now", call, {"format"}, 1);
  const std::string& format = in.text_of(given[0], "strftime_now");
  if (format.size() > 1000) in.refuse("strftime_now of a long format");
  // A datetime without a zone: %f are microseconds, %z and %Z are empty. %s would ask the zone of this machine.
  std::string plain;
  for (size_t i = 0; i < format.size(); ++i) {
    plain.push_back(format[i]);
    if (format[i] != '%' || i + 1 == format.size()) continue;
    const char next = format[++i];
    if (next == 's' || next == '\0') in.refuse("strftime_now with %s");
    if (next == 'f' || next == 'z' || next == 'Z') {
      plain.pop_back();
      if (next == 'f') plain += "000000";
    } else {
      plain.push_back(next);
    }
  }
  if (plain.empty()) return in.text("");
  std::string out(plain.size() * 64 + 256, '\0');
  const size_t written = std::strftime(out.data(), out.size(), (plain + "x").c_str(), &in.now());
  if (written == 0) in.refuse("strftime_now of a long format");
  out.resize(written - 1);
  return in.text(std::move(out));
}

}  // namespace

Value Cycler::attribute(Interpreter& in, const std::string& name, bool& there) {
  there = true;
  if (name == "current") return items[at];
  if (name == "next" || name == "reset")
    return in.function(
        name,
        [self = shared_from_this(), next = name == "next"](Interpreter& user, const Call& call) -> Value {
          const Arguments none(user, "cycler", call, {});
          const size_t now = self->at;
          self->at = next ? (now + 1) % self->items.size() : 0;
          return next ? self->items[now] : Value();
        },
        nesting);
  if (name == "items" || name == "pos") in.refuse("the attribute '" + name + "' of a cycler");
  there = false;
  return {};
}

void add_functions(Interpreter& in) {
  const std::pair<const char*, Value (*)(Interpreter&, const Call&)> functions[] = {
      {"range", range},
      {"dict", make_dict},
      {"namespace", make_namespace},
      {"cycler", make_cycler},
      {"joiner", make_joiner},
      {"raise_exception", raise_exception},
      {"strftime_now", strftime_now},
      {"lipsum", no_lipsum},
  };
  for (const auto& [name, body] : functions) in.set(name, in.function(name, body));
}

}  // namespace whit::jinja
