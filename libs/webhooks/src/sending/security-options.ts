import { ConfigurationError } from '../errors.js';
import { AddressGuard } from './address-guard.js';

/** Where webhooks may be sent. No default depends on `NODE_ENV`: what is safe in production is what tests meet too. */
export interface SecurityOptions {
  /**
   * CIDR ranges that may be reached although they are not public, such as `['127.0.0.0/8', '::1/128']` in tests and
   * demos. Whoever may create a listener can then make this application POST to every service in them. Cloud metadata
   * addresses stay blocked unless one is named alone (`169.254.169.254/32`).
   *
   * @defaultValue []
   */
  allowedAddresses?: readonly string[];

  /**
   * Also send to `http:` URLs, where everybody on the way reads payload and signature.
   *
   * @defaultValue false
   */
  allowHttp?: boolean;
}

/** {@link SecurityOptions} with every default filled in. */
export type ResolvedSecurityOptions = Readonly<Required<SecurityOptions>>;

/**
 * Fills in the defaults and checks what was given.
 *
 * @throws {@link ConfigurationError} `INVALID_OPTION`, naming key, value and fix
 */
export function resolveSecurityOptions(options: SecurityOptions = {}): ResolvedSecurityOptions {
  const { allowedAddresses = [], allowHttp = false } = options;
  if (typeof allowHttp !== 'boolean') {
    throw new ConfigurationError(
      'INVALID_OPTION',
      `security.allowHttp is ${JSON.stringify(allowHttp)}: give true or false.`,
    );
  }
  if (!Array.isArray(allowedAddresses)) {
    throw new ConfigurationError(
      'INVALID_OPTION',
      `security.allowedAddresses is ${JSON.stringify(allowedAddresses)}: give an array of CIDR ranges such as "10.0.0.0/8".`,
    );
  }
  void new AddressGuard(allowedAddresses);
  return Object.freeze({ allowedAddresses: Object.freeze([...allowedAddresses]), allowHttp });
}
