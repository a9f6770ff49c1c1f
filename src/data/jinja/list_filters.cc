#include <algorithm>

#include "base/error.h"
#include "data/jinja/characters.h"
#include "data/jinja/filters.h"

namespace whit::jinja::filters {
namespace {

// "a.b.0" as the look-ups that it stands for.
std::vector<Value> path_of(Interpreter& in, const Value& attribute) {
  if (attribute.is(Type::none)) return {};
  if (!attribute.is_text()) return {attribute};
  std::vector<Value> parts;
  const std::string& text = attribute.bytes();
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find('.', at), text.size());
    const std::string part = text.substr(at, end - at);
    const bool number = !part.empty() && part.size() < 18 && part.find_first_not_of("0123456789") == std::string::npos;
    parts.push_back(number ? Value(static_cast<int64_t>(std::stoll(part))) : in.text(part));
    at = end + 1;
  }
  return parts;
}

Value follow(Interpreter& in, Value item, const std::vector<Value>& path, const Value* otherwise = nullptr) {
  for (const Value& part : path) {
    item = in.item(item, part);
    if (otherwise && item.is_undefined()) item = *otherwise;
  }
  return item;
}

Value without_case(Interpreter& in, const Value& value) {
  return value.is_text() ? in.text(lower(in.text_of(value, "a comparison"))) : value;
}

// Items with what they are compared by, in order.
struct Keyed {
  Value key, item;
};

void sort_keyed(Interpreter& in, std::vector<Keyed>& rows, bool reverse) {
  // Python's sort keeps the order of equals, reversed too.
  std::stable_sort(rows.begin(), rows.end(), [&](const Keyed& a, const Keyed& b) {
    return reverse ? in.less(b.key, a.key) : in.less(a.key, b.key);
  });
}

Values items_of(const std::vector<Keyed>& rows) {
  Values out;
  for (const Keyed& row : rows) out.push_back(row.item);
  return out;
}

bool flag(const Arguments& given, size_t i) { return given.has(i) && given[i].truth(); }

Value choose(Interpreter& in, const Value& value, const Call& call, bool wanted, bool by_attribute) {
  return in.iterator([&](Values& out) {
    if (!value.truth()) return;
    size_t at = 0;
    std::vector<Value> path;
    if (by_attribute) {
      if (call.positional.empty()) in.fail("Missing parameter for attribute name");
      path = path_of(in, call.positional[at++]);
    }
    const Value* name = call.positional.size() > at ? &call.positional[at++] : nullptr;
    Call rest{{call.positional.begin() + static_cast<ptrdiff_t>(at), call.positional.end()}, call.named};
    for (const Value& item : in.items(value)) {
      in.meter().step();
      const Value subject = follow(in, item, path);
      const bool passes = name ? in.test(in.text_of(*name, "a test's name"), subject, rest) : subject.truth();
      if (passes == wanted) out.push_back(item);
    }
  });
}

Value extreme(Interpreter& in, const Value& value, const Call& call, const char* name, bool largest) {
  const Arguments given(in, name, call, {"case_sensitive", "attribute"});
  const std::vector<Value> path = path_of(in, given.get(1, Value()));
  const Values all = in.items(value);
  if (all.empty()) return Value::undefined("No aggregated item, sequence was empty.");
  Value best, best_key;
  for (size_t i = 0; i < all.size(); ++i) {
    Value key = follow(in, all[i], path);
    if (!flag(given, 0)) key = without_case(in, key);
    if (i == 0 || (largest ? in.less(best_key, key) : in.less(key, best_key))) best = all[i], best_key = key;
  }
  return best;
}

}  // namespace

Value batch(Interpreter& in, const Value& value, const Call& call) {
  const Arguments given(in, "batch", call, {"linecount", "fill_with"}, 1);
  return in.iterator([&](Values& out) {
    Values row;
    for (const Value& item : in.items(value)) {
      if (equal(static_cast<int64_t>(row.size()), given[0])) out.push_back(in.list(std::exchange(row, {})));
      row.push_back(item);
    }
    if (row.empty()) return;
    if (given.given(1)) {
      const int64_t count = in.whole_of(given[0], "batch");
      if (count > 100000) in.refuse("batches of more than 100000");
      while (static_cast<int64_t>(row.size()) < count) row.push_back(given[1]);
    }
    out.push_back(in.list(std::move(row)));
  });
}

Value dictsort(Interpreter& in, const Value& value, const Call& call) {
  const Arguments given(in, "dictsort", call, {"case_sensitive", "by", "reverse"});
  const std::string by = given.has(1) ? in.str(given[1]) : "key";
  if (by != "key" && by != "value") in.fail("You can only sort by either \"key\" or \"value\"");
  if (value.is_undefined()) in.fail(value.why());
  if (!value.is(Type::dict)) in.fail(std::string("'") + value.type_name() + "' object has no attribute 'items'");
  std::vector<Keyed> rows;
  for (const auto& [key, item] : value.dict().entries) {
    const Value& chosen = by == "key" ? key : item;
    rows.push_back({flag(given, 0) ? chosen : without_case(in, chosen), in.list({key, item}, ListKind::tuple)});
  }
  sort_keyed(in, rows, flag(given, 2));
  return in.list(items_of(rows));
}

Value first(Interpreter& in, const Value& value, const Call& call) {
  const Arguments given(in, "first", call, {});
  if (const auto generator = value.object_as<Iterator>()) {
    if (generator->at < generator->items.size()) return generator->items[generator->at++];
    if (generator->error) std::rethrow_exception(generator->error);
    return Value::undefined("No first item, sequence was empty.");
  }
  const Values all = in.items(value);
  return all.empty() ? Value::undefined("No first item, sequence was empty.") : all.front();
}

Value last(Interpreter& in, const Value& value, const Call& call) {
  const Arguments given(in, "last", call, {});
  if (value.object_as<Iterator>()) in.fail("'generator' object is not reversible");
  const Values all = in.items(value);
  return all.empty() ? Value::undefined("No last item, sequence was empty.") : all.back();
}

Value groupby(Interpreter& in, const Value& value, const Call& call) {
  const Arguments given(in, "groupby", call, {"attribute", "default", "case_sensitive"}, 1);
  const std::vector<Value> path = path_of(in, given[0]);
  const Value* otherwise = given.given(1) ? &given[1] : nullptr;
  std::vector<Keyed> rows;
  for (const Value& item : in.items(value)) {
    const Value key = follow(in, item, path, otherwise);
    rows.push_back({flag(given, 2) ? key : without_case(in, key), item});
  }
  sort_keyed(in, rows, false);
  Values groups;
  for (size_t i = 0; i < rows.size();) {
    Values members;
    const Value& key = rows[i].key;
    size_t end = i;
    for (; end < rows.size() && equal(rows[end].key, key); ++end) members.push_back(rows[end].item);
    const Value name = follow(in, members[0], path, otherwise);
    groups.push_back(in.list({name, in.list(std::move(members))}, ListKind::group));
    i = end;
  }
  return in.list(std::move(groups));
}

Value items(Interpreter& in, const Value& value, const Call& call) {
  const Arguments given(in, "items", call, {});
  return in.iterator([&](Values& out) {
    if (value.is_undefined()) return;
    if (!value.is(Type::dict)) in.fail("Can only get item pairs from a mapping.");
    for (const auto& [key, item] : value.dict().entries) out.push_back(in.list({key, item}, ListKind::tuple));
  });
}

Value join(Interpreter& in, const Value& value, const Call& call) {
  const Arguments given(in, "join", call, {"d", "attribute"});
  const std::string mark = given.has(0) ? in.str(given[0]) : "";
  const std::vector<Value> path = path_of(in, given.get(1, Value()));
  std::string out;
  bool first = true;
  for (const Value& item : in.items(value)) {
    if (!first) out += mark;
    first = false;
    const Value part = follow(in, item, path);
    out += in.str(part);
    in.meter().touch(mark.size() + (part.is_text() ? part.bytes().size() : 0));
    if (out.size() > in.meter().limits().bytes) in.refuse("a text of that size");
  }
  return in.text(std::move(out));
}

Value list(Interpreter& in, const Value& value, const Call& call) {
  const Arguments given(in, "list", call, {});
  return in.list(in.items(value));
}

Value map(Interpreter& in, const Value& value, const Call& call) {
  return in.iterator([&](Values& out) {
    if (!value.truth()) return;
    const auto named = [&](const char* name) -> const Value* {
      const auto found =
          std::find_if(call.named.begin(), call.named.end(), [&](const auto& n) { return n.first == name; });
      return found == call.named.end() ? nullptr : &found->second;
    };
    if (call.positional.empty() && named("attribute")) {
      const std::vector<Value> path = path_of(in, *named("attribute"));
      const Value* otherwise = named("default");
      if (call.named.size() > (otherwise ? 2u : 1u)) in.fail("map: Unexpected keyword argument");
      if (otherwise && otherwise->is(Type::none)) otherwise = nullptr;
      for (const Value& item : in.items(value)) out.push_back(follow(in, item, path, otherwise));
      return;
    }
    if (call.positional.empty()) in.fail("map requires a filter argument");
    const std::string& name = in.text_of(call.positional[0], "a filter's name");
    const Call rest{{call.positional.begin() + 1, call.positional.end()}, call.named};
    for (const Value& item : in.items(value)) {
      in.meter().step();
      out.push_back(in.filter(name, item, rest));
    }
  });
}

Value max(Interpreter& in, const Value& value, const Call& call) { return extreme(in, value, call, "max", true); }
Value min(Interpreter& in, const Value& value, const Call& call) { return extreme(in, value, call, "min", false); }
Value select(Interpreter& in, const Value& value, const Call& call) { return choose(in, value, call, true, false); }
Value reject(Interpreter& in, const Value& value, const Call& call) { return choose(in, value, call, false, false); }
Value selectattr(Interpreter& in, const Value& value, const Call& call) { return choose(in, value, call, true, true); }
Value rejectattr(Interpreter& in, const Value& value, const Call& call) { return choose(in, value, call, false, true); }

Value reverse(Interpreter& in, const Value& value, const Call& call) {
  const Arguments given(in, "reverse", call, {});
  if (value.is_text()) {
    std::string out;
    auto points = points_of(in.text_of(value, "reverse"));
    in.meter().step(points.size());
    for (auto point = points.rbegin(); point != points.rend(); ++point) out += *point;
    return in.text(std::move(out));
  }
  Values all = in.items(value);
  std::reverse(all.begin(), all.end());
  return value.object_as<Iterator>() ? in.list(std::move(all)) : in.iterator(std::move(all));
}

Value slice(Interpreter& in, const Value& value, const Call& call) {
  const Arguments given(in, "slice", call, {"slices", "fill_with"}, 1);
  return in.iterator([&](Values& out) {
    const Values all = in.items(value);
    const int64_t count = in.whole_of(given[0], "slice"), length = static_cast<int64_t>(all.size());
    if (count == 0) in.fail("integer division or modulo by zero");
    if (count > 100000) in.refuse("more than 100000 slices");
    size_t at = 0;
    for (int64_t i = 0; i < count; ++i) {
      const auto size = static_cast<size_t>(length / count + (i < length % count ? 1 : 0));
      Values part(all.begin() + static_cast<ptrdiff_t>(at), all.begin() + static_cast<ptrdiff_t>(at + size));
      at += size;
      if (given.given(1) && i >= length % count) part.push_back(given[1]);
      out.push_back(in.list(std::move(part)));
    }
  });
}

Value sort(Interpreter& in, const Value& value, const Call& call) {
  const Arguments given(in, "sort", call, {"reverse", "case_sensitive", "attribute"});
  std::vector<std::vector<Value>> paths;
  const Value attribute = given.get(2, Value());
  if (attribute.is_text()) {
    const std::string& text = attribute.bytes();
    for (size_t at = 0; at <= text.size();) {
      const size_t end = std::min(text.find(',', at), text.size());
      paths.push_back(path_of(in, in.text(text.substr(at, end - at))));
      at = end + 1;
    }
  } else {
    paths.push_back(path_of(in, attribute));
  }
  std::vector<Keyed> rows;
  for (const Value& item : in.items(value)) {
    Values keys;
    for (const auto& path : paths) {
      const Value key = follow(in, item, path);
      keys.push_back(flag(given, 1) ? key : without_case(in, key));
    }
    rows.push_back({in.list(std::move(keys)), item});
  }
  sort_keyed(in, rows, flag(given, 0));
  return in.list(items_of(rows));
}

Value sum(Interpreter& in, const Value& value, const Call& call) {
  const Arguments given(in, "sum", call, {"attribute", "start"});
  const std::vector<Value> path = path_of(in, given.get(0, Value()));
  Value total = given.get(1, int64_t{0});
  if (total.is_text()) in.fail("sum() can't sum strings");
  for (const Value& item : in.items(value)) total = in.binary(Operator::add, total, follow(in, item, path));
  return total;
}

Value unique(Interpreter& in, const Value& value, const Call& call) {
  const Arguments given(in, "unique", call, {"case_sensitive", "attribute"});
  return in.iterator([&](Values& out) {
    const std::vector<Value> path = path_of(in, given.get(1, Value()));
    Dict seen{Charge()};
    for (const Value& item : in.items(value)) {
      Value key = follow(in, item, path);
      if (!flag(given, 0)) key = without_case(in, key);
      if (!hashable(key)) in.fail(std::string("unhashable type: '") + key.type_name() + "'");
      if (!key.is_text()) in.meter().step(seen.entries.size());
      if (seen.find(key)) continue;
      seen.set(key, Value());
      out.push_back(item);
    }
  });
}

}  // namespace whit::jinja::filters
