/* SPDX-License-Identifier: GPL-2.0-only */
/* A hook that takes an IP address along to the other host, and keeps packets away until the program runs. */
#ifndef WPTRACK_MIGRATE_MOVE_ADDRESS_H
#define WPTRACK_MIGRATE_MOVE_ADDRESS_H

/**
 * wptrack_move_address - what the hook is to do
 * @what:	ADDRESS/LENGTH@DEVICE, of IPv4 or IPv6; none that means the same on any host or link
 * @before:	a hook to be added to; NULL: none
 *
 * Return: a command for the shell, to be freed; NULL with errno EINVAL for what is no such address, or ENOMEM.
 */
char *wptrack_move_address(const char *what, const char *before);

#endif
