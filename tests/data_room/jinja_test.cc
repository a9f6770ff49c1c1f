// The interpreter of chat templates, construct by construct, against what jinja2 made of each, and its bounds.
#include <gtest/gtest.h>

#include <filesystem>

#include "base/error.h"
#include "data/chat.h"
#include "data_room/fixtures.h"

namespace whit {
namespace {

const std::string kNow = "2024-07-06T09:05:03";

std::string render(const std::string& jinja, const Json& context = Json::object()) {
  return ChatTemplate(jinja).render_variables(context, parse_chat_date(kNow, ""));
}

Error refusal(const std::string& jinja) {
  try {
    const std::string text = render(jinja);
    ADD_FAILURE() << jinja << " gave " << text.substr(0, 100);
  } catch (const Error& error) {
    return error;
  }
  return {ErrorKind::internal, ""};
}

// tests/data/jinja: made by tools/jinja_constructs.py.
TEST(Jinja, EveryConstructAsTheReference) {
  const Json table = Json::parse(read_file(test::data_path("jinja") / "constructs.json"));
  size_t texts = 0, errors = 0;
  for (const Json& row : table["rows"]) {
    const std::string jinja = row["template"];
    if (row["text"].is_null()) {
      refusal(jinja);
      ++errors;
      continue;
    }
    try {
      EXPECT_EQ(render(jinja, table["context"]), row["text"].get<std::string>()) << jinja;
    } catch (const Error& error) {
      ADD_FAILURE() << jinja << "\n" << error.what();
    }
    ++texts;
  }
  EXPECT_GE(texts, 120u);
  EXPECT_GE(errors, 50u);
}

TEST(Jinja, ErrorsNameTheLine) {
  EXPECT_EQ(refusal("a\n{{ 1 }}\n{{ x.y }}").where(), "chat template, line 3");
  EXPECT_EQ(refusal("a\n{% if x %}\n").where(), "chat template, line 2");
  EXPECT_EQ(refusal("\n\n{{ 'a' | urlencode }}").found(), "the filter 'urlencode'");
  EXPECT_EQ(refusal("{% include 'x' %}").found(), "the statement 'include'");
  EXPECT_EQ(refusal("{{ 'a'.encode() }}").found(), "the method 'encode' of str");
  EXPECT_EQ(refusal("{% for x in [1] %}\n{{ 9223372036854775807 + x }}{% endfor %}").where(), "chat template, line 2");
}

TEST(Jinja, ARaisedExceptionIsTheTemplatesOwnWord) {
  const Error error = refusal("\n{{ raise_exception('Only user and assistant.') }}");
  EXPECT_EQ(error.kind(), ErrorKind::usage);
  EXPECT_EQ(error.found(), "Only user and assistant.");
  EXPECT_EQ(error.where(), "chat template, line 2");
  EXPECT_EQ(refusal("{{ 1 / 0 }}").kind(), ErrorKind::input);
}

// What cannot be told from an address or an order of this machine is refused.
TEST(Jinja, RefusesWhatPythonWouldWriteAnAddressOf) {
  for (const char* jinja : {"{{ range }}", "{{ [1] | select }}", "{{ 'a'.upper }}", "{{ {'items': 1}.items }}",
                            "{% macro m() %}{% endmacro %}{{ m }}", "{% for x in [1] %}{{ loop }}{% endfor %}"})
    EXPECT_EQ(refusal(jinja).kind(), ErrorKind::input) << jinja;
}

TEST(Jinja, Bounds) {
  const std::string loop = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}";
  EXPECT_NE(refusal(loop).found().find("steps"), std::string::npos);
  EXPECT_NE(refusal("{{ 'a' * 1000000000000 }}").found().find("bytes"), std::string::npos);
  EXPECT_NE(refusal("{% set ns = namespace(s='a') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}")
                .found()
                .find("bytes"),
            std::string::npos);
  EXPECT_NE(refusal("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}").found().find("nested"), std::string::npos);
  EXPECT_NE(refusal("{% set ns = namespace(s=[]) %}{% for i in range(1000) %}{% set ns.s = [ns.s] %}{% endfor %}")
                .found()
                .find("nested"),
            std::string::npos);
  EXPECT_NE(refusal("{{ " + std::string(2000, '(') + "1" + std::string(2000, ')') + " }}").found().find("levels"),
            std::string::npos);
  std::string sum = "{{ 1";
  for (int i = 0; i < 2000; ++i) sum += " + 1";
  EXPECT_NE(refusal(sum + " }}").found().find("levels"), std::string::npos);
  std::string nested;
  for (int i = 0; i < 2000; ++i) nested += "{% if true %}";
  EXPECT_NE(refusal(nested).found().find("levels"), std::string::npos);
  EXPECT_NE(
      refusal("{% for i in range(100000) %}" + std::string(10000, 'x') + "{% endfor %}").found().find("more than"),
      std::string::npos);
  EXPECT_EQ(refusal("{{ '%99999d' % 1 }}").kind(), ErrorKind::input);
  EXPECT_EQ(refusal("\xff").kind(), ErrorKind::input);
}

// What holds itself is let go: the leak checker of the sanitizers sees to it.
TEST(Jinja, CyclesAreReleased) {
  EXPECT_EQ(render("{% set ns = namespace() %}{% set ns.me = ns %}{% set ns.list = [ns] %}"
                   "{% macro m() %}{{ m is defined }}{% endmacro %}{% set ns.m = m %}{{ m() }}"
                   "{% for x in [1] %}{% set ns.loop = loop %}{% endfor %}"),
            "True");
  EXPECT_EQ(render("{% set ns = namespace(p=none) %}{% for i in range(50000) %}"
                   "{% set n = namespace(p=ns.p) %}{% set ns.p = n %}{% endfor %}ok"),
            "ok");
}

}  // namespace
}  // namespace whit
