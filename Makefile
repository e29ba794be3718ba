# SPDX-License-Identifier: GPL-2.0-only
#
# The only entry: `make help` lists what it can do. All output is below $(BUILD).

VERSION		:= 0.1
BUILD		?= build
PREFIX		?= /usr/local
SBINDIR		?= $(PREFIX)/sbin
BINDIR		?= $(PREFIX)/bin
MANDIR		?= $(PREFIX)/share/man
COMPLETIONDIR	?= $(PREFIX)/share/bash-completion/completions
# Also compiled into criu, which then finds the plugin without being told.
PLUGINDIR	?= $(PREFIX)/lib/criu
DESTDIR		?=
CRIU_SRC	?=
FORCE		?=
WORKLOAD	?= asan
V		?= 0
WERROR		?= 1
CFLAGS		?= -O2 -g
LDFLAGS		?=
ifeq ($(origin CC),default)
CC		:= gcc
endif

SHELL		:= /bin/bash
.SHELLFLAGS	:= -eu -o pipefail -c
MAKEFLAGS	+= -r --no-print-directory
.SUFFIXES:
.SECONDARY:
.DELETE_ON_ERROR:
.DEFAULT_GOAL	:= all

Q		:= $(if $(filter 1,$(V)),,@)
say		= @printf '  %-8s %s\n' '$(1)' '$(2)'
squote		= '$(subst ','\'',$(1))'

# --- what is built ---------------------------------------------------------

CRIU		:= $(BUILD)/bin/criu
PLUGIN		:= $(BUILD)/plugins/wptrack_plugin.so
KEEPER		:= $(BUILD)/plugins/wptrack-keeper
WPTRACK		:= $(BUILD)/bin/wptrack
COMPLETION	:= $(BUILD)/wptrack.bash
LIB		:= $(BUILD)/libwptrack.a
# The command without its main(), for tests to take from what they need.
COMMAND_LIB	:= $(BUILD)/libcommand.a
# The plugin with the mistakes of lib/controls.h in it, and its keeper.
CONTROL_PLUGIN	:= $(BUILD)/controls/wptrack_plugin.so
CONTROL_KEEPER	:= $(BUILD)/controls/wptrack-keeper
CRIU_TREE	:= $(BUILD)/criu
STOCK_TREE	:= $(BUILD)/criu-stock
CRIU_BIN	:= $(CRIU_TREE)/criu/criu
STOCK_BIN	:= $(STOCK_TREE)/criu/criu

PROTOS		:= $(wildcard images/*.proto)
LIB_SRC		:= $(wildcard lib/*.c)
PLUGIN_SRC	:= $(wildcard plugin/*.c)
KEEPER_SRC	:= $(wildcard keeper/*.c)
COMMAND_SRC	:= $(wildcard wptrack/*.c wptrack/*/*.c)
UNIT_SRC	:= $(wildcard test/unit/*_test.c)
KERNEL_SRC	:= $(wildcard test/kernel/*.c)
PROGRAM_SRC	:= $(wildcard test/programs/*.c)
TOOL_SRC	:= $(wildcard test/tools/*.c)
BENCH_SRC	:= $(wildcard test/bench/*.c)
PATCHES		:= $(sort $(wildcard criu-patches/*.patch))
MAN_PAGES	:= $(wildcard docs/*.1 docs/*.8)

GEN_SRC		:= $(PROTOS:images/%.proto=$(BUILD)/gen/%.pb-c.c)
GEN_HDR		:= $(GEN_SRC:.c=.h)
GEN_OBJ		:= $(GEN_SRC:.c=.o)
# CRIU's own description of its pagemap images and statistics, and what that includes.
IMG_GEN		:= $(BUILD)/gen/criu
IMG_OBJ		:= $(IMG_GEN)/pagemap.pb-c.o $(IMG_GEN)/stats.pb-c.o
IMG_HDR		:= $(IMG_OBJ:.o=.h)
LIB_OBJ		:= $(LIB_SRC:%.c=$(BUILD)/obj/%.o) $(GEN_OBJ)
PLUGIN_OBJ	:= $(PLUGIN_SRC:%.c=$(BUILD)/obj/%.o)
CONTROL_OBJ	:= $(PLUGIN_SRC:%.c=$(BUILD)/obj/controls/%.o) $(LIB_SRC:%.c=$(BUILD)/obj/controls/%.o)
KEEPER_OBJ	:= $(KEEPER_SRC:%.c=$(BUILD)/obj/%.o)
COMMAND_MAIN	:= $(BUILD)/obj/wptrack/wptrack.o
COMMAND_OBJ	:= $(filter-out $(COMMAND_MAIN),$(COMMAND_SRC:%.c=$(BUILD)/obj/%.o)) $(IMG_OBJ)

UNIT_BIN	:= $(UNIT_SRC:%.c=$(BUILD)/%)
KERNEL_BIN	:= $(KERNEL_SRC:%.c=$(BUILD)/%)
PROGRAM_BIN	:= $(PROGRAM_SRC:test/programs/%.c=$(BUILD)/test/%)
# These are built with each sanitizer of each compiler, others with one.
SANITIZED	:= $(addprefix $(BUILD)/test/,sanitized sparse sparse-kinds)
ASAN_BIN	:= $(patsubst %,%-asan,$(filter-out $(SANITIZED),$(PROGRAM_BIN)))
TOOL_BIN	:= $(TOOL_SRC:test/tools/%.c=$(BUILD)/test/%)
BENCH_BIN	:= $(BENCH_SRC:test/bench/%.c=$(BUILD)/test/%)
# What only a sanitizer's program shows: COMPILER-SANITIZER of each build.
SANITIZERS	:= gcc-asan clang-asan clang-msan gcc-tsan clang-tsan
SANITIZED_BIN	:= $(foreach san,$(SANITIZERS),$(SANITIZED:=-$(san)))
DEMO_SAN_BIN	:= $(addprefix $(BUILD)/test/pagekeeper-,clang-msan clang-tsan)
LOAD_SAN_BIN	:= $(addprefix $(BUILD)/test/load-,gcc-asan clang-msan)
FUZZ_BIN	:= $(patsubst test/fuzz/%.c,$(BUILD)/test/%,$(wildcard test/fuzz/*.c))
# Preloaded into criu by tests.
INJECT		:= $(BUILD)/test/inject.so $(BUILD)/test/corked.so
TEST_BIN	:= $(INJECT) $(FUZZ_BIN) $(UNIT_BIN) $(KERNEL_BIN) $(PROGRAM_BIN) $(ASAN_BIN) $(TOOL_BIN) $(BENCH_BIN) \
		  $(SANITIZED_BIN) $(DEMO_SAN_BIN) $(LOAD_SAN_BIN)

# --- flags -----------------------------------------------------------------

WARNINGS	:= -Wall -Wextra -Wmissing-prototypes -Wstrict-prototypes $(if $(filter 0,$(WERROR)),,-Werror)
OUR_CPPFLAGS	:= -D_GNU_SOURCE= -DWPTRACK_VERSION='"$(VERSION)"' -I. -I$(BUILD)/gen -I$(IMG_GEN)
# As CRIU's own plugins have them.
CRIU_CPPFLAGS	:= $(addprefix -iquote $(CRIU_TREE)/,criu/include include images .)
OUR_CFLAGS	:= -std=gnu11 $(WARNINGS) $(CFLAGS)
DEPFLAGS	= -MMD -MP -MF $(@:.o=).d -MT $@
COMPILE		= $(CC) $(OUR_CPPFLAGS) $(CPPFLAGS) $(OUR_CFLAGS) $(DEPFLAGS)
LDLIBS		:= -lprotobuf-c -pthread

# CRIU adds to CFLAGS itself, so what the user gave goes where it looks for
# that, and nothing else of this make may reach it. It asks git and python
# things it does not need to know to build criu.
CRIU_MAKE	= env -u CFLAGS -u CPPFLAGS -u PLUGINDIR -u PREFIX -u DESTDIR -u SBINDIR -u BINDIR -u MANDIR -u COMPLETIONDIR -u WERROR \
		  GIT_DIR=$(abspath $(BUILD))/no-git LDFLAGS=$(call squote,$(LDFLAGS)) $(MAKE) $(CRIU_JOBS)
CRIU_ARGS	= CC=$(call squote,$(CC)) USERCFLAGS=$(call squote,$(CFLAGS)) WERROR=$(WERROR) PYTHON=:
# The jobserver is for recursive makes, which `make -n` would run.
RECURSE		= $(if $(findstring n,$(firstword -$(MAKEFLAGS))),,+)
# All cores, unless this make was given a number itself.
CRIU_JOBS	= $(if $(findstring jobserver,$(MAKEFLAGS))$(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc))

# --- targets for people ----------------------------------------------------

all: $(CRIU) $(PLUGIN) $(KEEPER) $(WPTRACK) $(COMPLETION) ## patched criu, plugin, keeper and wptrack (default)

help: ## this text
	@awk -f scripts/help.awk $(firstword $(MAKEFILE_LIST))

deps: ## install the Debian packages that build and tests need (root, network)
	$(Q)scripts/deps.sh

criu-stock: $(STOCK_BIN) ## the same CRIU without the patches, which tests compare with

tests: all $(TEST_BIN) criu-stock ## build what the tests run, run nothing

check: ## all tests (root, long)
	$(Q)scripts/deps.sh
	$(Q)$(MAKE) tests
	$(Q)$(RUN_CHECKS) $(CHECK_CRIU) $(CHECK_UNIT) $(CHECK_KERNEL) $(CHECK_FUZZ) $(CHECK_TORTURE) $(CHECK_ZDTM)

check-quick: tests ## for each commit: unit and kernel tests, and some minutes of the others (root)
	$(Q)$(RUN_CHECKS) $(CHECK_QUICK) $(CHECK_UNIT) $(CHECK_KERNEL)

check-unit: $(UNIT_BIN) $(KEEPER) ## unit tests: our C code without CRIU
	$(Q)$(RUN_CHECKS) $(CHECK_UNIT)

check-kernel: $(KERNEL_BIN) ## what we rely on the kernel for (root)
	$(Q)$(RUN_CHECKS) $(CHECK_KERNEL)

check-criu: tests ## dumps and restores of real programs (root, long)
	$(Q)$(RUN_CHECKS) $(CHECK_CRIU)

check-controls: tests $(CONTROL_PLUGIN) $(CONTROL_KEEPER) ## do the tests notice a tracker that is wrong? (root)
	$(Q)$(RUN_CHECKS) $(CHECK_CONTROLS)

fuzz: $(FUZZ_BIN) ## records and messages made up by libFuzzer, DURATION=seconds
	$(Q)$(TEST_ENV) DURATION=$(or $(DURATION),60) $(RUN_CHECKS_ONLY) --timeout=$$(($(or $(DURATION),60) + 300)) test/fuzz/run.sh

torture: tests ## everything that can be done to memory, DURATION=seconds SEED=number (root)
	$(Q)$(TEST_ENV) DURATION=$(or $(DURATION),60) SEED=$(or $(SEED),1) test/torture/torture.sh

zdtm: tests ## CRIU's own tests and ours in its way, MODE="pre ..." FLAVORS="h ns uns" TESTS=regexp SET=stock|own|all (root, long)
	$(Q)$(TEST_ENV) MODE=$(call squote,$(or $(MODE),pre)) FLAVORS=$(call squote,$(or $(FLAVORS),h)) TESTS=$(call squote,$(TESTS)) SET=$(or $(SET),all) \
		scripts/zdtm.sh

zdtm-all: tests ## all of that in all modes, for docs/zdtm.md with WRITE_DOCS=1, PART=regexp of "MODE FLAVOR" (root, hours)
	$(Q)$(TEST_ENV) WRITE_DOCS=$(WRITE_DOCS) PART=$(call squote,$(PART)) scripts/zdtm-all.sh

bench: ## how long programs are stopped and slowed down, BENCH=regexp of sections QUICK=1 TURNS=number BENCH_DIR=dir, for docs/performance.md with WRITE_DOCS=1 (root, up to 40 minutes)
	$(Q)scripts/deps.sh
	$(Q)$(MAKE) tests
	$(Q)$(TEST_ENV) WRITE_DOCS=$(WRITE_DOCS) QUICK=$(QUICK) TURNS=$(TURNS) BENCH=$(call squote,$(BENCH)) BENCH_DIR=$(call squote,$(BENCH_DIR)) \
		/usr/bin/python3 test/bench/bench.py

bench-kernels: ## soft-dirty bits beside ours, under a kernel that has both, emulated (root)
	$(Q)scripts/deps.sh kernels
	$(Q)$(MAKE) tests
	$(Q)$(TEST_ENV) KERNELS=$(or $(KERNELS),6.12) TESTS=bench scripts/kernels.sh
	$(Q)cat $(BUILD)/kernels/results/$(or $(KERNELS),6.12)/bench.log

bench-sparse: tests ## what sparse mappings cost, against plain memory (root, long)
	$(Q)$(TEST_ENV) WRITE_DOCS=$(WRITE_DOCS) test/bench/bench-sparse.sh

check-kernels: ## tests under other kernels, emulated, KERNELS="6.1 6.12 7.2 7.3" TESTS="kernel check ...", for docs/kernels.md with WRITE_DOCS=1 (root, hours)
	$(Q)scripts/deps.sh kernels
	$(Q)$(MAKE) tests
	$(Q)$(TEST_ENV) KERNELS=$(call squote,$(KERNELS)) TESTS=$(call squote,$(TESTS)) WRITE_DOCS=$(WRITE_DOCS) scripts/kernels.sh

patches-check: ## the series fits, and builds after every patch (long); with CRIU_SRC=dir: which patches apply to that tree
	$(Q)CRIU_SRC=$(call squote,$(CRIU_SRC)) BUILD=$(abspath $(BUILD)) CC=$(call squote,$(CC)) scripts/patches-check.sh

check-fixes: tests ## do the tests notice when a fix of the series is not there? FIXES="0016 ..." (root, up to an hour)
	$(Q)$(TEST_ENV) CC=$(call squote,$(CC)) FIXES=$(call squote,$(FIXES)) scripts/fixes-check.sh

demo: ## show it on a running program, WORKLOAD=asan|msan|tsan|plain (root)
	$(Q)scripts/deps.sh
	$(Q)$(MAKE) tests
	$(Q)$(TEST_ENV) WORKLOAD=$(WORKLOAD) test/demo/demo.sh
	$(Q)$(TEST_ENV) WORKLOAD=$(WORKLOAD) test/demo/move.sh

RUN_CHECKS_ONLY	= scripts/run-checks.sh
RUN_CHECKS	= $(TEST_ENV) $(RUN_CHECKS_ONLY)
TEST_ENV	= env -u MAKEFLAGS -u MAKELEVEL BUILD=$(abspath $(BUILD)) WPTRACK_KEEPER=$(abspath $(KEEPER))
# What a unit test asks for, root has.
# What takes longest begins first, in shards: on two cores nothing is to go on alone for minutes in the end.
SHARDED_TESTS	= $(patsubst %,test/criu/%.sh,interrupted sanitizers decisions live)
LONG_TESTS	= $(patsubst %,test/criu/%.sh,limits migrate-to content preflight migrate move-guard races)
# Kernel threads are seen outside of namespaces only.
ALONE_TESTS	= test/criu/refusals.sh
CRIU_TESTS	= --shards=4 $(SHARDED_TESTS) --shards=1 $(LONG_TESTS) \
		  $(filter-out $(SHARDED_TESTS) $(LONG_TESTS) $(ALONE_TESTS),$(wildcard test/criu/*.sh))
CHECK_UNIT	= --beside --timeout=60 $(if $(filter 0,$(shell id -u)),--no-skip,--may-skip) scripts/layout-check.sh $(UNIT_BIN)
CHECK_KERNEL	= --beside --timeout=300 --may-skip $(KERNEL_BIN)
# What most mistakes show in, and is quick: chains, what breaks them, what is unseen, the keeper, the command.
QUICK_TESTS	= $(patsubst %,test/criu/%.sh,chain broken-chain unseen parents keeper check vma-flags libdir usage rpc)
CHECK_QUICK	= --beside --timeout=300 --may-skip $(QUICK_TESTS)
CHECK_CRIU	= --beside --timeout=900 --may-skip $(CRIU_TESTS) --outside $(ALONE_TESTS)
CHECK_FUZZ	= --beside --timeout=300 --no-skip test/fuzz/run.sh
CHECK_TORTURE	= --alone --timeout=600 --may-skip test/torture/torture.sh
CHECK_ZDTM	= --alone --timeout=1500 --may-skip test/zdtm/check.sh
CHECK_CONTROLS	= --alone --timeout=900 --no-skip test/controls/controls.sh

install: all ## install to PREFIX, PLUGINDIR below DESTDIR, FORCE=1 in the place of another criu (root)
	$(call say,INSTALL,$(DESTDIR)$(PREFIX) and $(DESTDIR)$(PLUGINDIR))
	$(Q)FORCE=$(FORCE) scripts/install-criu.sh install $(CRIU) $(DESTDIR)$(SBINDIR)/criu
	$(Q)install -D -m 755 $(WPTRACK) $(DESTDIR)$(BINDIR)/wptrack
	$(Q)install -D -m 755 -t $(DESTDIR)$(PLUGINDIR) $(PLUGIN) $(KEEPER)
	$(Q)for page in $(MAN_PAGES); do \
		install -D -m 644 -t $(DESTDIR)$(MANDIR)/man$${page##*.} $$page; \
	done
	$(Q)install -D -m 644 $(COMPLETION) $(DESTDIR)$(COMPLETIONDIR)/wptrack

INSTALLED	= $(BINDIR)/wptrack $(COMPLETIONDIR)/wptrack $(PLUGINDIR)/$(notdir $(PLUGIN)) $(PLUGINDIR)/$(notdir $(KEEPER)) \
		  $(foreach page,$(MAN_PAGES),$(MANDIR)/man$(subst .,,$(suffix $(page)))/$(notdir $(page)))

uninstall: ## remove what install put there, and give back what it replaced (root)
	$(call say,REMOVE,$(DESTDIR)$(PREFIX) and $(DESTDIR)$(PLUGINDIR))
	$(Q)scripts/install-criu.sh uninstall $(DESTDIR)$(SBINDIR)/criu
	$(Q)rm -f $(addprefix $(DESTDIR),$(INSTALLED))
	$(Q)if [ -d $(DESTDIR)$(PLUGINDIR) ]; then rmdir --ignore-fail-on-non-empty $(DESTDIR)$(PLUGINDIR); fi

clean: ## remove all output but the downloaded source
	$(Q)if [ -d $(BUILD) ]; then find $(BUILD) -mindepth 1 -maxdepth 1 ! -name dl -exec rm -rf {} +; fi

distclean: ## remove all output
	$(Q)rm -rf $(BUILD)

.PHONY: all help deps criu-stock tests check check-quick check-unit check-kernel check-criu patches-check check-controls check-fixes check-kernels fuzz torture zdtm zdtm-all bench bench-kernels bench-sparse demo install uninstall \
	clean distclean FORCE

# --- stamps: files that change only when what they record does -------------

# $(call stamp,text): the recipe for one.
stamp		= @mkdir -p $(@D); printf '%s\n' $(call squote,$(1)) | cmp -s - $@ || \
		  printf '%s\n' $(call squote,$(1)) >$@

# Expanded here, where no target has flags of its own.
FLAGS		:= $(COMPILE) $(LDFLAGS) $(LDLIBS)
$(BUILD)/stamp/flags: FORCE
	$(call stamp,$(FLAGS))

$(BUILD)/stamp/sources: FORCE
	$(call stamp,$(PROTOS) $(LIB_SRC) $(PLUGIN_SRC) $(KEEPER_SRC) $(COMMAND_SRC))

$(BUILD)/stamp/criu-flags: FORCE
	$(call stamp,$(CRIU_ARGS) $(LDFLAGS) PLUGINDIR=$(PLUGINDIR))

$(BUILD)/stamp/criu-stock-flags: FORCE
	$(call stamp,$(CRIU_ARGS) $(LDFLAGS))

# What a source tree is made of, by content: the base or the user's own tree,
# and the patches.
OWN_TREE_SUM	= $(if $(CRIU_SRC),$(abspath $(CRIU_SRC)) $(shell find $(call squote,$(CRIU_SRC)) -path '*/.git' -prune -o \
		  -type f \( -name '*.[chS]' -o -name '*.proto' -o -name 'Makefile*' \) -printf '%p %T@\n' | sort | sha256sum))

$(BUILD)/stamp/base: FORCE
	$(call stamp,$(shell sha256sum <criu-patches/BASE) $(OWN_TREE_SUM))

$(BUILD)/stamp/series: FORCE
	$(call stamp,$(shell cat $(PATCHES) /dev/null | sha256sum) $(PATCHES))

# --- CRIU ------------------------------------------------------------------

# A tree is always made afresh and renamed into place when it is complete.
define make-tree
	$(Q)CRIU_SRC=$(call squote,$(CRIU_SRC)) scripts/criu-source.sh tree $(BUILD)/dl $(1).new
	$(if $(2),$(Q)scripts/criu-source.sh patch $(1).new)
	$(Q)rm -rf $(1)
	$(Q)mv $(1).new $(1)
	$(Q)touch $@
endef

$(CRIU_TREE).tree: $(BUILD)/stamp/base $(BUILD)/stamp/series
	$(call make-tree,$(CRIU_TREE),patched)

$(STOCK_TREE).tree: $(BUILD)/stamp/base
	$(call make-tree,$(STOCK_TREE),)

# Two trees, should both be wanted, would fetch the same file.
$(STOCK_TREE).tree: | $(CRIU_TREE).tree

# CRIU's make knows no changed flags, so those mean a clean build.
$(CRIU_BIN) $(STOCK_BIN): $(BUILD)/%/criu/criu: $(BUILD)/%.tree $(BUILD)/stamp/%-flags
	$(call say,CRIU,$@ (log in $(BUILD)/$*.log))
	@mkdir -p $(BUILD)/no-git/objects $(BUILD)/no-git/refs
	@echo 'ref: refs/heads/none' >$(BUILD)/no-git/HEAD
	$(RECURSE)$(Q)cd $(BUILD)/$*; if [ -e .built-flags ] && ! cmp -s ../stamp/$*-flags .built-flags; then \
		$(CRIU_MAKE) clean &>../$*.log; fi
	$(Q)cp $(BUILD)/stamp/$*-flags $(BUILD)/$*/.built-flags
	$(RECURSE)$(Q)cd $(BUILD)/$*; $(CRIU_MAKE) $(CRIU_ARGS) V=$(V) criu $(if $(filter 1,$(V)),2>&1 | tee,&>) ../$*.log || \
		{ tail -n 30 ../$*.log >&2; exit 1; }
	$(Q)touch $@

# `make` has its own variables; CRIU's is told what it needs to know.
$(CRIU_BIN) $(STOCK_BIN): private MAKEOVERRIDES =
# The patched criu has a plugin directory of its own, the stock one CRIU's default.
$(CRIU_BIN): private CRIU_ARGS += PLUGINDIR=$(PLUGINDIR)

$(CRIU): $(CRIU_BIN)
	$(Q)install -D -m 755 $< $@

# --- ours ------------------------------------------------------------------

$(BUILD)/gen/%.pb-c.c $(BUILD)/gen/%.pb-c.h &: images/%.proto
	$(call say,PROTOC,$<)
	@mkdir -p $(@D)
	$(Q)protoc-c --proto_path=images --c_out=$(BUILD)/gen $<

$(IMG_OBJ:.o=.c) $(IMG_HDR) &: $(CRIU_TREE).tree
	$(call say,PROTOC,$(CRIU_TREE)/images: pagemap.proto stats.proto)
	@mkdir -p $(@D)
	$(Q)protoc-c --proto_path=$(CRIU_TREE)/images --proto_path=/usr/include --c_out=$(IMG_GEN) \
		pagemap.proto stats.proto opts.proto google/protobuf/descriptor.proto

$(GEN_OBJ) $(IMG_OBJ): %.o: %.c $(BUILD)/stamp/flags
	$(call say,CC,$@)
	$(Q)$(COMPILE) -Wno-missing-prototypes -Wno-unused-parameter -fPIC -c -o $@ $<

# What plugin.h-like headers of the patched tree say is part of the plugin.
$(BUILD)/obj/plugin/%.o $(BUILD)/obj/controls/plugin/%.o: private OUR_CPPFLAGS += $(CRIU_CPPFLAGS)
$(PLUGIN_OBJ) $(filter $(BUILD)/obj/controls/plugin/%,$(CONTROL_OBJ)): $(CRIU_TREE).tree

$(BUILD)/obj/%.o: %.c $(BUILD)/stamp/flags | $(GEN_HDR) $(IMG_HDR)
	$(call say,CC,$@)
	@mkdir -p $(@D)
	$(Q)$(COMPILE) -fPIC -c -o $@ $<

$(BUILD)/obj/controls/%.o: %.c $(BUILD)/stamp/flags | $(GEN_HDR) $(IMG_HDR)
	$(call say,CC,$@)
	@mkdir -p $(@D)
	$(Q)$(COMPILE) -DWPTRACK_WITH_CONTROLS -fPIC -c -o $@ $<

$(LIB): $(LIB_OBJ)
$(COMMAND_LIB): $(COMMAND_OBJ)
$(LIB) $(COMMAND_LIB): $(BUILD)/stamp/sources
	$(call say,AR,$@)
	$(Q)rm -f $@
	$(Q)$(AR) rcs $@ $(filter %.o,$^)

# wptrack/json.c
$(WPTRACK) $(UNIT_BIN): private LDLIBS += -ljson-c
# CRIU loads it into a process that exports all its own symbols: it must bind
# to its own first, and leaves undefined what it takes from CRIU.
$(PLUGIN): $(PLUGIN_OBJ) $(LIB)
# mm_flags.c. CRIU itself is linked with it.
$(PLUGIN) $(CONTROL_PLUGIN) $(WPTRACK) $(UNIT_BIN) $(KERNEL_BIN): private LDLIBS += -Wl,--as-needed -lbpf
$(CONTROL_PLUGIN): $(CONTROL_OBJ) $(GEN_OBJ)
$(PLUGIN) $(CONTROL_PLUGIN): plugin/plugin.map $(BUILD)/stamp/sources
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -shared -fPIC -Wl,--version-script=plugin/plugin.map $(LDFLAGS) -o $@ \
		$(filter %.o,$^) $(filter %.a,$^) $(LDLIBS)

$(CONTROL_KEEPER): $(KEEPER)
	$(Q)install -D -m 755 $< $@

$(KEEPER): $(KEEPER_OBJ) $(LIB)
$(WPTRACK): $(COMMAND_MAIN) $(COMMAND_LIB) $(LIB)
$(COMPLETION): $(WPTRACK)
	$(call say,GEN,$@)
	$(Q)$< --completion >$@

$(UNIT_BIN): $(BUILD)/%: $(BUILD)/obj/%.o $(COMMAND_LIB) $(LIB)
$(KERNEL_BIN): $(BUILD)/%: $(BUILD)/obj/%.o $(LIB)
$(PROGRAM_BIN): $(BUILD)/test/%: $(BUILD)/obj/test/programs/%.o
$(BENCH_BIN): $(BUILD)/test/%: $(BUILD)/obj/test/bench/%.o $(LIB)
# All of CRIU's images in one object, as CRIU links them.
$(TOOL_BIN): $(BUILD)/test/%: $(BUILD)/obj/test/tools/%.o $(CRIU_TREE)/images/built-in.o
$(TOOL_SRC:%.c=$(BUILD)/obj/%.o): private OUR_CPPFLAGS += -iquote $(CRIU_TREE)/images
$(TOOL_SRC:%.c=$(BUILD)/obj/%.o): $(CRIU_BIN)
$(CRIU_TREE)/images/built-in.o: $(CRIU_BIN) ;

# CRIU's C library, of what its own make would take for it, which would look for all sorts of things first.
LIBCRIU		:= $(BUILD)/test/libcriu.so
LIBCRIU_CPPFLAGS := $(foreach dir,lib/c images criu/include,-iquote $(CRIU_TREE)/$(dir))
$(LIBCRIU): $(CRIU_BIN) $(BUILD)/stamp/flags
	$(call say,CCLD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -w -shared -fPIC -Wl,-soname,libcriu.so $(LIBCRIU_CPPFLAGS) $(LDFLAGS) -o $@ \
		$(CRIU_TREE)/lib/c/criu.c $(CRIU_TREE)/images/rpc.pb-c.c -lprotobuf-c

$(BUILD)/obj/test/tools/libcriu-client.o: private OUR_CPPFLAGS += $(LIBCRIU_CPPFLAGS)
$(BUILD)/test/libcriu-client: $(LIBCRIU)
$(BUILD)/test/libcriu-client: private LDLIBS := $(LIBCRIU) -Wl,-rpath,'$$ORIGIN' $(LDLIBS)

$(KEEPER) $(WPTRACK) $(UNIT_BIN) $(KERNEL_BIN) $(PROGRAM_BIN) $(TOOL_BIN) $(BENCH_BIN): $(BUILD)/stamp/flags
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $(filter %.o %.a,$^) $(LDLIBS)

# libFuzzer is clang's, whatever CC is; what is fuzzed is built with it.
FUZZED		:= lib/session.c lib/wire.c lib/proc.c lib/sys_uffd.c lib/page.c keeper/table.c keeper/keeper_serve.c
$(FUZZ_BIN): $(BUILD)/test/%: test/fuzz/%.c $(wildcard test/fuzz/*.h) $(FUZZED) $(wildcard lib/*.h keeper/*.h) $(GEN_SRC) $(BUILD)/stamp/flags
	$(call say,CCLD,$@)
	@mkdir -p $(@D)
	$(Q)clang $(OUR_CPPFLAGS) $(OUR_CFLAGS) -Wno-missing-prototypes -Wno-unused-parameter -O1 \
		-fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all $(LDFLAGS) -o $@ $< $(FUZZED) $(GEN_SRC) $(LDLIBS)

$(INJECT): $(BUILD)/test/%.so: test/faults/%.c $(BUILD)/stamp/flags
	$(call say,CCLD,$@)
	@mkdir -p $(@D)
	$(Q)$(COMPILE) -shared -fPIC $(LDFLAGS) -o $@ $< -ldl

$(ASAN_BIN): $(BUILD)/test/%-asan: test/programs/%.c $(BUILD)/stamp/flags
	$(call say,CCLD,$@)
	@mkdir -p $(@D)
	$(Q)$(COMPILE) -fsanitize=address $(LDFLAGS) -o $@ $< $(LDLIBS)

# PROGRAM-COMPILER-SANITIZER; the compilers are those named, whatever CC is.
SANITIZE-asan	:= address
SANITIZE-msan	:= memory
SANITIZE-tsan	:= thread
define sanitized-by
$(BUILD)/test/%-$(1): test/programs/%.c $(BUILD)/stamp/flags
	$$(call sanitize,$(1))
endef
define sanitize
	$(call say,CCLD,$@)
	@mkdir -p $(@D)
	$(Q)$(firstword $(subst -, ,$(1))) $(wordlist 2,99,$(COMPILE)) \
		-fsanitize=$(SANITIZE-$(lastword $(subst -, ,$(1)))) $(LDFLAGS) -o $@ $(filter %.c,$^) $(LDLIBS)
endef
$(foreach san,$(SANITIZERS),$(eval $(call sanitized-by,$(san))))

# All that a sanitizer looks at is to be built with it, the library's parts too.
LOAD_SRC	:= test/bench/load.c lib/sys_uffd.c lib/page.c
$(LOAD_SAN_BIN): $(BUILD)/test/load-%: $(LOAD_SRC) test/bench/load.h $(wildcard lib/*.h) $(BUILD)/stamp/flags
	$(call sanitize,$*)

-include $(wildcard $(BUILD)/obj/*/*.d $(BUILD)/obj/*/*/*.d $(BUILD)/gen/*.d $(IMG_GEN)/*.d $(BUILD)/test/*.d)
