
/*
 * Keys in PEM that everybody knows: RFC 7515, appendix A.3, and RFC 8037,
 * appendix A.1; and some that are none of ours.
 */


#ifndef _CURSOR_PEM_H_INCLUDED_
#define _CURSOR_PEM_H_INCLUDED_


#define PEM_P256                                                              \
    "-----BEGIN PUBLIC KEY-----\n"                                            \
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEf83OJ3D2xF1Bg8vub9tLe1gHMzV7\n"      \
    "6e8Tus9uPHvRVEXH8UTNG72bfocs3+257rn0s2ldbqkLJK2KRiMohYjlrQ==\n"          \
    "-----END PUBLIC KEY-----\n"

#define PEM_P256_PRIVATE                                                      \
    "-----BEGIN EC PRIVATE KEY-----\n"                                        \
    "MHcCAQEEII6bEJ5xkJi/mASH3x9dd+nLKWBuvtImO19XwhPfhPSyoAoGCCqGSM49\n"      \
    "AwEHoUQDQgAEf83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEXH8UTNG72b\n"      \
    "focs3+257rn0s2ldbqkLJK2KRiMohYjlrQ==\n"                                  \
    "-----END EC PRIVATE KEY-----\n"

#define PEM_ED25519                                                           \
    "-----BEGIN PUBLIC KEY-----\n"                                            \
    "MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n"          \
    "-----END PUBLIC KEY-----\n"

#define PEM_ED25519_PRIVATE                                                   \
    "-----BEGIN PRIVATE KEY-----\n"                                           \
    "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n"      \
    "-----END PRIVATE KEY-----\n"

#define PEM_P384                                                              \
    "-----BEGIN PUBLIC KEY-----\n"                                            \
    "MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAE/IoBRiFKqpgaVKMxZ7w/sslzdDlpT6hV\n"      \
    "GyI2Jk2/2xv/Ow5Nb4wTp8MBMew87Y5iVjMdqOznNRAZ+KTu/u72dmFOw7eJVoLF\n"      \
    "CbIjMn+8R0AN0lcEQbudHZ/6vr2zdEm5\n"                                      \
    "-----END PUBLIC KEY-----\n"

#define PEM_SECP256K1                                                         \
    "-----BEGIN PUBLIC KEY-----\n"                                            \
    "MFYwEAYHKoZIzj0CAQYFK4EEAAoDQgAESzjV2+XFnbIaVHpSgBfTCJRvSXNJMd0e\n"      \
    "QFj7Y03OLocJgcGbm5IQgiz53V2Q2ymMVqUDotcNk/9RJ2cVzxCdwA==\n"              \
    "-----END PUBLIC KEY-----\n"

#define PEM_RSA                                                               \
    "-----BEGIN PUBLIC KEY-----\n"                                            \
    "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQC3x5pk00cXweHJ0XrI+/DkPIWq\n"      \
    "lkmXy0Pir9F3o8/D4Do6g4pIDzhj8ILJyKiBJ5supMyim5P2HbSGWY6Yi8qqlFlW\n"      \
    "tdKYWR4PRQIMP5ZJdlOQ1PaBSA6VWq715dHdLP/LgfaAGBUjOpjpkCsaBvbT9uWO\n"      \
    "yVNPITM7nz3LCx05YQIDAQAB\n"                                              \
    "-----END PUBLIC KEY-----\n"

#define PEM_X25519                                                            \
    "-----BEGIN PUBLIC KEY-----\n"                                            \
    "MCowBQYDK2VuAyEAoxpoeQk2iLuCeyzcy/QQwI2XASzwO3BI6DJ6BEU9Dl0=\n"          \
    "-----END PUBLIC KEY-----\n"

#define PEM_LOCKED                                                            \
    "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"                                 \
    "MIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAi7YU/Xd9up0AICCAAw\n"      \
    "DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEBQzO40y3nZ49K2J6Rm3A1AEQC35\n"      \
    "gFUx/nv1ABL3tgGB37yj+5Jr7NglOjKAUWDf8lUXYm+i/DvGowjbTl/+DSV1tstO\n"      \
    "kveuy8saStoU/LdnYLQ=\n"                                                  \
    "-----END ENCRYPTED PRIVATE KEY-----\n"


#endif /* _CURSOR_PEM_H_INCLUDED_ */
