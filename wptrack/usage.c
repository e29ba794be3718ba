// SPDX-License-Identifier: GPL-2.0-only
#include <string.h>

#include "usage.h"

#define OPTION_WIDTH 18

/* What is in the place of a subcommand. */
static const char own_options[] = "  -h, --help               print this, or what COMMAND takes\n"
				  "  -V, --version            print the version\n"
				  "      --completion         print what completes command lines in bash\n";

void wptrack_usage_all(FILE *to, const struct wptrack_command *const *commands, size_t nr)
{
	fprintf(to, "usage: wptrack COMMAND\n\n");
	for (size_t i = 0; i < nr; i++)
		fprintf(to, "  %-10s %-13s %s\n", commands[i]->name, commands[i]->args, commands[i]->help);
	fprintf(to, "  %-10s %-13s %s\n", "help", "", "print this");
	fprintf(to, "\n%s", own_options);
}

void wptrack_usage_of(FILE *to, const struct wptrack_command *command)
{
	fprintf(to, "usage: wptrack %s %s\n\n%s\n\n", command->name, command->args, command->help);
	for (const struct wptrack_option *option = command->options; option->name; option++) {
		const int len = fprintf(to, "  --%s%s%s", option->name, option->value ? " " : "",
					option->value ? option->value : "");

		/* One that takes all the place is told of in the next line. */
		if (len > OPTION_WIDTH + 4)
			fprintf(to, "\n%*s %s\n", OPTION_WIDTH + 4, "", option->help);
		else
			fprintf(to, "%*s %s\n", OPTION_WIDTH + 4 - len, "", option->help);
	}
	if (command->more)
		fputs(command->more, to);
}

static const char script_begins[] =
	"# bash completion of wptrack, printed by `wptrack --completion`\n"
	"_wptrack_reply()\n"
	"{\n"
	"\tmapfile -t COMPREPLY < <(compgen \"$@\")\n"
	"}\n"
	"\n"
	"_wptrack()\n"
	"{\n"
	"\tlocal word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} options=''\n"
	"\n"
	"\tCOMPREPLY=()\n"
	"\t# What comes behind is criu's.\n"
	"\tif [[ \" ${COMP_WORDS[*]:1:COMP_CWORD - 1} \" == *' -- '* ]]; then\n"
	"\t\t_wptrack_reply -f -- \"$word\"\n"
	"\t\treturn\n"
	"\tfi\n"
	"\tcase ${COMP_WORDS[1]} in\n";
static const char values_begin[] = "\tesac\n"
				   "\tcase \"${COMP_WORDS[1]} $before\" in\n";
static const char words_begin[] = "\tesac\n"
				  "\tif [ \"$COMP_CWORD\" = 1 ]; then\n"
				  "\t\t_wptrack_reply -W \"";
static const char script_ends[] = "help --help --version --completion\" -- \"$word\"\n"
				  "\telif [[ $word == -* ]]; then\n"
				  "\t\t_wptrack_reply -W \"$options --help\" -- \"$word\"\n"
				  "\telse\n"
				  "\t\t# A process or a directory\n"
				  "\t\t_wptrack_reply -d -W \"$(cd /proc && echo [0-9]*)\" -- \"$word\"\n"
				  "\tfi\n"
				  "}\n"
				  "complete -o filenames -F _wptrack wptrack\n";

static void complete_options(FILE *to, const struct wptrack_command *command)
{
	fprintf(to, "\t%s) options=\"", command->name);
	for (const struct wptrack_option *option = command->options; option->name; option++)
		fprintf(to, "%s--%s", option == command->options ? "" : " ", option->name);
	fputs("\" ;;\n", to);
}

/* A program, one of some words, or what nobody but the user knows. */
static void complete_values(FILE *to, const struct wptrack_command *command)
{
	for (const struct wptrack_option *option = command->options; option->name; option++) {
		if (!option->value)
			continue;
		fprintf(to, "\t\"%s --%s\") ", command->name, option->name);
		if (option->words)
			fprintf(to, "_wptrack_reply -W \"%s\" -- \"$word\"; ", option->words);
		else if (!strcmp(option->value, "PATH"))
			fputs("_wptrack_reply -c -- \"$word\"; ", to);
		fputs("return ;;\n", to);
	}
}

void wptrack_usage_completion(FILE *to, const struct wptrack_command *const *commands, size_t nr)
{
	fputs(script_begins, to);
	for (size_t i = 0; i < nr; i++)
		complete_options(to, commands[i]);
	fputs(values_begin, to);
	for (size_t i = 0; i < nr; i++)
		complete_values(to, commands[i]);
	fputs(words_begin, to);
	for (size_t i = 0; i < nr; i++)
		fprintf(to, "%s ", commands[i]->name);
	fputs(script_ends, to);
}
